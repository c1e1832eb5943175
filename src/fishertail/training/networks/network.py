"""What a network of the grid is: a name, its options, and a function that makes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail import registry
from fishertail.settings import Real, Section

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]  # channels, height and width of an image
PACKAGE, CONSTANT = "fishertail.training.networks", "NETWORK"
OTHERS = frozenset({"network", "build", "factory", "layers", "resized"})  # modules that register nothing

LossName = Literal["cross_entropy", "squared_error"]
DEFAULT_LOSS: LossName = "cross_entropy"


class Architecture(Section):
    """What every entry of `architectures` has; a network's own options come beside it."""

    learning_rate: Real = Field(gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field(description="the layer of Fig. 2 to 6: the paper's 'one particular layer'")
    loss: LossName = Field(
        DEFAULT_LOSS,
        description="what it is trained by: cross entropy, or half the squared distance of the outputs from the label "
        "as a one-hot vector, summed over the classes",
    )


@dataclass(frozen=True)
class Network:
    """A network that the key `models` knows by its name.

    Attributes:
        name: its name in the configuration.
        meaning: what it is, and where it comes from, in the docs.
        architecture: its options, each with a default.
        build: makes it; called with `shape`, `classes`, and its options by name.
        layers: the names of its layers by its options, where they are known without torch.
    """

    name: str
    meaning: str
    architecture: type[Architecture]
    build: Callable[..., "nn.Module"]
    layers: Callable[[Mapping[str, Any]], list[str]] | None = None


def networks() -> dict[str, Network]:
    """All networks by name."""
    return registry.registered(PACKAGE, CONSTANT, Network, OTHERS)


def module(name: str) -> str:
    """The module of a network, for the hash of code; that of factories for a name that is not built in."""
    known = networks()
    if name not in known:
        return "training.networks.factory"
    return registry.module_of(PACKAGE, CONSTANT, known[name], OTHERS)
