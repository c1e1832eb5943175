"""The paper's convolutional network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fishertail.errors import UnsupportedModelError
from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn

CONVOLUTIONS = 4


class Convolutional(Architecture):
    """The options of `conv`: the paper prints the rate; widths and layer are our choice."""

    learning_rate: Real = Field(0.001, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field("fc2", description="the layer of Fig. 2 to 6: the last hidden fully connected one")
    channels: Annotated[list[PositiveInt], Field(min_length=CONVOLUTIONS, max_length=CONVOLUTIONS)] = Field(
        [32, 32, 64, 64], description="output channels of the convolutional layers"
    )
    hidden_widths: list[PositiveInt] = Field([512, 256], description="widths of the hidden fully connected layers")
    initialisation: Literal["lecun_normal", "torch"] = Field("lecun_normal", description="initial weights")


def conv(
    shape: Shape,
    classes: int,
    channels: Sequence[int],
    hidden_widths: Sequence[int],
    initialisation: str = "lecun_normal",
) -> "nn.Module":
    """3 x 3 convolutions, max pooling after all but the first, and fully connected layers; usable as a factory, too.

    Args:
        shape, classes, initialisation: see `fc`.
        channels: outputs of the four convolutions.
        hidden_widths: of all fully connected layers but the last.

    Raises:
        UnsupportedModelError: the images are too small for the pooling layers.
    """
    from torch import nn

    from fishertail.training.networks.layers import Layers, fully_connected, initialised

    if min(shape[1:]) < 8:
        raise UnsupportedModelError(f"conv pools three times: images of at least 8 x 8 expected, found {shape[1:]}")
    layers: Layers = []
    inputs = shape[0]
    for index, outputs in enumerate(channels, start=1):
        layers += [(f"conv{index}", nn.Conv2d(inputs, outputs, 3, padding=1)), (f"relu_conv{index}", nn.ReLU())]
        if index > 1:
            layers.append((f"pool{index}", nn.MaxPool2d(2)))
        inputs = outputs
    features = inputs * (shape[1] // 8) * (shape[2] // 8)
    layers.append(("flatten", nn.Flatten()))
    return initialised(layers + fully_connected(features, hidden_widths, classes), initialisation)


def layers(options: Mapping[str, Any]) -> list[str]:
    """The names of the layers with parameters."""
    connected = [f"fc{i + 1}" for i in range(len(options["hidden_widths"]) + 1)]
    return [f"conv{i + 1}" for i in range(CONVOLUTIONS)] + connected


NETWORK = Network(
    "conv",
    "4 convolutions with 2 x 2 max pooling three times, then 3 fully connected layers, with ReLU (the paper's)",
    Convolutional,
    conv,
    layers,
)
