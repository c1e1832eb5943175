"""`GradientPlan`: how the rows of each layer are computed. The probe settles it once, and every batch follows it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fishertail.gradients.sample_axis import SampleAxis

CallAxes = tuple[tuple[SampleAxis, ...], tuple[SampleAxis, ...]]  # of the tensors that a module takes, and returns
Signature = tuple[object, tuple[tuple[str, str], ...]]  # of a use: its rule, and the parameter in each role


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of a layer that are used together, such as a weight and its bias."""

    parameters: tuple[str, ...]
    uses: tuple[tuple[int, tuple[str, ...]], ...]  # the number of each use, and the roles of the parameters in it


@dataclass(frozen=True)
class Replay:
    """A module that is run again for each sample, to differentiate it by the parameters of a layer."""

    module: str
    loop: bool = False  # one sample after the other, where vmap cannot treat the module


ALONE = Replay("", loop=True)  # each sample by itself, through the whole network: what the parameters do is not asked


@dataclass(frozen=True)
class GradientPlan:
    """How the rows of each layer are computed: each layer is in one of `by_rule`, `expanded` and `replayed`."""

    signatures: tuple[Signature, ...] = ()  # of the uses of parameters that a forward pass records, in order
    axes: tuple[tuple[SampleAxis, SampleAxis] | None, ...] = ()  # of each use's input and output; None: unknown
    repeated: frozenset[int] = frozenset()  # uses whose output has no samples, and is repeated for each of them
    by_rule: Mapping[str, tuple[ParameterGroup, ...]] = field(default_factory=dict)
    expanded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by parameter: axes put before its own
    replayed: Mapping[str, Replay] = field(default_factory=dict)
    call_axes: Mapping[str, tuple[CallAxes, ...]] = field(default_factory=dict)  # of each call of a replayed module
    absent: frozenset[str] = frozenset()  # parameters that the output does not depend on

    @property
    def folded(self) -> bool:
        """Whether samples share an axis with positions, so that the shapes of a batch alone do not separate them."""
        of_uses = (axis for pair in self.axes if pair is not None for axis in pair)
        of_calls = (axis for calls in self.call_axes.values() for pair in calls for axes in pair for axis in axes)
        return any(axis.folded for axis in (*of_uses, *of_calls))

    def without(self, layer: str) -> "GradientPlan":
        """The plan with nothing settled for a layer."""
        return replace(
            self,
            by_rule={name: groups for name, groups in self.by_rule.items() if name != layer},
            expanded={name: axes for name, axes in self.expanded.items() if name != layer},
            replayed={name: replay for name, replay in self.replayed.items() if name != layer},
        )


def parameter_groups(parameters: Iterable[str], uses: Iterable[Mapping[str, str]]) -> tuple[ParameterGroup, ...]:
    """The groups of a layer's parameters.

    Args:
        parameters: names of the layer's parameters, in their order.
        uses: of all parameters of the network: the name of the parameter in each role.
    """
    roles_of_each = [{name: role for role, name in use.items()} for use in uses]
    found: list[ParameterGroup] = []
    for name in parameters:
        own = tuple((number, (roles[name],)) for number, roles in enumerate(roles_of_each) if name in roles)
        if found and (joined := _joined(found[-1], name, own)) is not None:
            found[-1] = joined
        else:
            found.append(ParameterGroup((name,), own))
    return tuple(found)


def _joined(group: ParameterGroup, name: str, uses: tuple[tuple[int, tuple[str, ...]], ...]) -> ParameterGroup | None:
    """The group with one parameter more, if that is the bias to the group's weight in all uses."""
    if not uses or len(group.uses) != len(uses):
        return None
    pairs = [(a, b, roles + others) for (a, roles), (b, others) in zip(group.uses, uses, strict=True)]
    if any(a != b or roles != ("weight", "bias") for a, b, roles in pairs):
        return None
    return ParameterGroup((*group.parameters, name), tuple((number, roles) for number, _, roles in pairs))
