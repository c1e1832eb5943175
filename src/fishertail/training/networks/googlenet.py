"""GoogLeNet on images of any size."""

from typing import TYPE_CHECKING

from pydantic import Field

from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn


class GoogLeNet(Architecture):
    """The options of GoogLeNet."""

    learning_rate: Real = Field(0.05, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field("net.fc", description="the layer of Fig. 2 to 6: the one fully connected layer")
    size: PositiveInt = Field(64, description="side to which images are resized, in pixels: the least for its poolings")


def googlenet(shape: Shape, classes: int, size: int = 64) -> "nn.Module":
    """Szegedy et al. 2015, as in torchvision, without the auxiliary classifiers, since a sample has one loss.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        size: side to which images are resized, in pixels.
    """
    from fishertail.training.networks.resized import torchvision_network

    return torchvision_network("googlenet", shape, size, num_classes=classes, aux_logits=False, init_weights=True)


NETWORK = Network(
    "googlenet",
    "Szegedy et al. 2015, as in torchvision, without the auxiliary classifiers, since a sample has one loss",
    GoogLeNet,
    googlenet,
)
