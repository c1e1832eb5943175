"""AlexNet on images of any size."""

from typing import TYPE_CHECKING

from pydantic import Field

from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn


class AlexNet(Architecture):
    """The options of AlexNet."""

    learning_rate: Real = Field(0.05, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field(
        "net.classifier.4", description="the layer of Fig. 2 to 6: the last hidden fully connected one"
    )
    size: PositiveInt = Field(64, description="side to which images are resized, in pixels: the least for its poolings")


def alexnet(shape: Shape, classes: int, size: int = 64) -> "nn.Module":
    """Krizhevsky et al. 2012, as in torchvision: 5 convolutions, 3 fully connected layers with dropout.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        size: side to which images are resized, in pixels.
    """
    from fishertail.training.networks.resized import torchvision_network

    return torchvision_network("alexnet", shape, size, num_classes=classes)


NETWORK = Network(
    "alexnet",
    "Krizhevsky et al. 2012, as in torchvision: 5 convolutions, 3 fully connected layers with dropout",
    AlexNet,
    alexnet,
)
