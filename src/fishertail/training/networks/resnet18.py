"""ResNet-18 on images of any size."""

from typing import TYPE_CHECKING

from pydantic import Field

from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn


class ResNet18(Architecture):
    """The options of ResNet-18."""

    learning_rate: Real = Field(0.05, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field("net.fc", description="the layer of Fig. 2 to 6: the one fully connected layer")
    size: PositiveInt = Field(64, description="side to which images are resized, in pixels")


def resnet18(shape: Shape, classes: int, size: int = 64) -> "nn.Module":
    """He et al. 2016, as in torchvision; batch normalisation is analysed in eval mode.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        size: side to which images are resized, in pixels.
    """
    from fishertail.training.networks.resized import torchvision_network

    return torchvision_network("resnet18", shape, size, num_classes=classes)


NETWORK = Network(
    "resnet18",
    "He et al. 2016, as in torchvision; batch normalisation is analysed in eval mode",
    ResNet18,
    resnet18,
)
