"""The paper's fully connected network."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn


class FullyConnected(Architecture):
    """The options of `fc`: the paper prints the rate; widths and layer are our choice."""

    learning_rate: Real = Field(0.05, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field("fc4", description="the layer of Fig. 2 to 6: the last hidden one")
    hidden_widths: list[PositiveInt] = Field([500] * 4, description="widths of the hidden fully connected layers")
    initialisation: Literal["lecun_normal", "torch"] = Field("lecun_normal", description="initial weights")


def fc(shape: Shape, classes: int, hidden_widths: Sequence[int], initialisation: str = "lecun_normal") -> "nn.Module":
    """Fully connected layers with ReLU; usable as a factory, too, for several of them in one grid.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        hidden_widths: of all layers but the last.
        initialisation: lecun_normal or torch.
    """
    from torch import nn

    from fishertail.training.networks.layers import fully_connected, initialised

    layers = [("flatten", nn.Flatten()), *fully_connected(math.prod(shape), hidden_widths, classes)]
    return initialised(layers, initialisation)


def layers(options: Mapping[str, Any]) -> list[str]:
    """The names of the layers."""
    return [f"fc{i + 1}" for i in range(len(options["hidden_widths"]) + 1)]


NETWORK = Network("fc", "5 fully connected layers with ReLU (the paper's)", FullyConnected, fc, layers)
