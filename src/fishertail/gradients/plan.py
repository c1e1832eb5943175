"""How the rows of each layer are made: what the probe settles once, and every batch then follows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Layout:
    """Where a tensor has its samples: an axis of its own, or one that they share with something else."""

    axis: int | None  # None: the tensor has none, it is the same for all samples
    folded: bool = False
    samples_outside: bool = True  # of a folded axis: (n, f) flattened, not (f, n)

    def samples_first(self, tensor: torch.Tensor, samples: int) -> torch.Tensor:
        """(n, ...)."""
        if self.axis is None:
            return tensor.expand(samples, *tensor.shape)
        if not self.folded:
            return tensor.movedim(self.axis, 0)
        tensor, axis = self.one_by_one(tensor, samples)
        return tensor.movedim(axis, 0)

    def one_by_one(self, tensor: torch.Tensor, samples: int) -> tuple[torch.Tensor, int | None]:
        """The tensor with an axis for the samples, along which each of them has what a batch of it alone would have.

        Returns:
            the tensor, and the axis; None where it is the same for all samples.
        """
        if self.axis is None:
            return tensor, None
        if not self.folded:
            return tensor.unsqueeze(self.axis + 1), self.axis
        if self.samples_outside:
            return tensor.unflatten(self.axis, (samples, -1)), self.axis
        return tensor.unflatten(self.axis, (-1, samples)), self.axis + 1


def layout(of_batch: torch.Size, of_one: torch.Size, samples: int) -> Layout | None:
    """The layout by the shapes in a batch and of one sample alone; None where they do not tell."""
    if len(of_batch) != len(of_one):
        return None
    differing = [axis for axis, pair in enumerate(zip(of_batch, of_one, strict=True)) if pair[0] != pair[1]]
    if not differing:
        return Layout(None)
    axis = differing[0]
    if len(differing) > 1 or of_batch[axis] != samples * of_one[axis]:
        return None
    return Layout(axis, folded=of_one[axis] != 1)


@dataclass(frozen=True)
class Group:
    """Parameters of a layer that stand side by side and are used together."""

    parameters: tuple[str, ...]
    uses: tuple[tuple[int, tuple[str, ...]], ...]  # the number of each use, and the roles of the parameters in it


@dataclass(frozen=True)
class Replay:
    """A module that is run again for each sample, to differentiate it by the parameters of a layer."""

    module: str
    loop: bool = False  # one sample after the other, where vmap cannot


@dataclass(frozen=True)
class Plan:
    """How the rows of each layer are made. A layer is in one of the last three."""

    signatures: tuple[tuple, ...] = ()  # of the uses
    layouts: tuple[tuple[Layout | None, Layout | None], ...] = ()  # of input and output of each use
    repeated: frozenset[int] = frozenset()  # uses whose output is repeated for each sample
    by_rule: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    expanded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by parameter: axes put before its own
    replayed: Mapping[str, Replay] = field(default_factory=dict)
    call_layouts: Mapping[str, tuple] = field(default_factory=dict)  # of each call of a replayed module, see `replay`


def groups(parameters: Iterable[str], uses: Iterable[Mapping[str, str]]) -> tuple[Group, ...]:
    """The groups of a layer's parameters.

    Args:
        parameters: of the layer, in its order.
        uses: of the network: the parameter in each role.
    """
    uses = [{name: role for role, name in use.items()} for use in uses]
    found: list[Group] = []
    for name in parameters:
        own = tuple((number, (use[name],)) for number, use in enumerate(uses) if name in use)
        if found and (joined := _joined(found[-1], name, own)) is not None:
            found[-1] = joined
        else:
            found.append(Group((name,), own))
    return tuple(found)


def _joined(group: Group, name: str, uses: tuple[tuple[int, tuple[str, ...]], ...]) -> Group | None:
    """The group with one parameter more, where it is the bias to the group's weight in all uses."""
    if not uses or len(group.uses) != len(uses):
        return None
    pairs = [(a, b, roles + others) for (a, roles), (b, others) in zip(group.uses, uses, strict=True)]
    if any(a != b or roles != ("weight", "bias") for a, b, roles in pairs):
        return None
    return Group((*group.parameters, name), tuple((number, roles) for number, _, roles in pairs))
