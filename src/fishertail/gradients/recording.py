"""One forward pass of the network, and what it leaves for every sample's gradient from one backward pass.

Calls of torch functions that take trained Parameters are recorded: their input, and the place of their output in
autograd's graph (a gradient edge, which in-place operations after it do not break).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.hooks import RemovableHandle

from fishertail.gradients.gradient_plan import Signature
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.decomposition import DECOMPOSITIONS
from fishertail.gradients.layer_rules.module_rules import ModuleRule
from fishertail.gradients.layer_rules.rule import LAYER_RULES, Call, LayerRule


@dataclass(frozen=True)
class Use(ABC):
    """A call that takes trained Parameters and has a rule."""

    parameters: Mapping[str, str]  # role in the call: name in the network
    input: torch.Tensor
    shape: torch.Size  # of the output
    edge: GradientEdge | None  # None where no gradient can reach it

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What is the same in every batch."""

    @abstractmethod
    def rows(
        self, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        """The rows of the parameters in `roles`; for the arguments see `LayerRule.rows`."""


@dataclass(frozen=True)
class FunctionUse(Use):
    """A call of a function of torch."""

    rule: LayerRule
    call: Call

    @property
    def signature(self) -> Signature:
        return self.rule, tuple(self.parameters.items())

    def rows(
        self, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        return self.rule.rows(self.call, roles, inputs, derivatives, scale)


@dataclass(frozen=True)
class ModuleUse(Use):
    """A call of a module for whose type the user registered a rule."""

    rule: ModuleRule
    module: nn.Module

    @property
    def signature(self) -> Signature:
        return self.rule, tuple(self.parameters.items())

    def rows(
        self, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        gradients = self.rule(self.module, inputs, derivatives)
        flat = [gradients[role].reshape(len(scale), getattr(self.module, role).numel()) for role in roles]
        return DenseRows(torch.cat(flat, dim=1), scale)


@dataclass(frozen=True)
class ModuleCall:
    """A call of a module that is to be run again for each sample."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[torch.Size, ...]  # of the tensors in its output
    edges: tuple[GradientEdge | None, ...]

    @property
    def given_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the tensors in its arguments."""
        leaves = tree_flatten((self.args, self.kwargs))[0]
        return tuple(leaf.shape for leaf in leaves if isinstance(leaf, torch.Tensor))

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> "ModuleCall":
        """What is kept of a call, whose arguments are detached."""
        tensors = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]
        return cls(args, kwargs, tuple(tensor.shape for tensor in tensors), tuple(map(_edge, tensors)))


@dataclass
class Recording:
    """What one forward pass leaves."""

    outputs: Any = None
    uses: list[Use] = field(default_factory=list)
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)  # of the modules that were watched


class Recorder(TorchFunctionMode):
    """Records the functions called while it is open.

    Args:
        names: of the trained Parameters, by id.
        repeated: numbers of the uses whose output has no samples (a position embedding) and is repeated for each.
        samples: number of samples in the batch.
    """

    def __init__(self, names: Mapping[int, str], repeated: frozenset[int] = frozenset(), samples: int = 1) -> None:
        super().__init__()
        self.recording = Recording()
        self.quiet = 0  # depth of the open modules that have a rule of their own
        self._names, self._repeated, self._samples = names, repeated, samples

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        decomposition = DECOMPOSITIONS.get(func)
        if decomposition is not None and decomposition.applies(args, kwargs):
            with self:  # the functions it consists of are recorded one by one
                return decomposition.run(*args, **kwargs)
        rule = LAYER_RULES.get(func)
        if rule is None:
            return func(*args, **kwargs)
        call = rule.bind(args, kwargs)
        parameters = {
            role: self._names[id(tensor)] for role, tensor in call.parameters.items() if id(tensor) in self._names
        }
        if not rule.applies(call):
            return func(*args, **kwargs)
        output = rule.run(call)
        if not parameters or self.quiet:
            return output
        given, output = self._repeat(call.input, output)
        self.recording.uses.append(FunctionUse(parameters, given.detach(), output.shape, _edge(output), rule, call))
        return output

    def module_hooks(self, module: nn.Module, rule: ModuleRule, parameters: Mapping[str, str]) -> list[RemovableHandle]:
        """Record the calls of a module as uses of its rule. Returns the hooks' handles."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.quiet += 1

        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            self.quiet -= 1
            given, output = self._repeat(args[0] if args else next(iter(kwargs.values())), output)
            use = ModuleUse(parameters, given.detach(), output.shape, _edge(output), rule, module)
            self.recording.uses.append(use)
            return output

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    def _repeat(self, given: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and output of the next use, repeated for each sample where they are to be."""
        if len(self.recording.uses) not in self._repeated:
            return given, output
        return given.expand(self._samples, *given.shape), output.expand(self._samples, *output.shape)


def watch(module: nn.Module, name: str, recording: Recording) -> list[RemovableHandle]:
    """Record the calls of a module with all their arguments. Returns the hooks' handles."""
    pending: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pending.append(tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (args, kwargs)))

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        recording.calls.setdefault(name, []).append(ModuleCall.of(*pending.pop(), output))

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def gradients_at(
    outputs: torch.Tensor, edges: Sequence[GradientEdge | None], derivatives: torch.Tensor
) -> list[torch.Tensor | None]:
    """The derivatives of (outputs * derivatives).sum() at the edges, None where none reaches them."""
    wanted = [edge for edge in edges if edge is not None]
    if not wanted or not outputs.requires_grad:
        return [None] * len(edges)
    found = iter(torch.autograd.grad(outputs, wanted, derivatives, allow_unused=True))
    return [None if edge is None else next(found) for edge in edges]


def leaves(outputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors without a history, such as Parameters, that outputs depend on."""
    pending, seen = [outputs.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending += [before for before, _ in node.next_functions]
        if node.name() == "torch::autograd::AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]


def _edge(tensor: torch.Tensor) -> GradientEdge | None:
    """Where the derivative by a tensor will arrive; None where none does.

    An in-place operation on a view, which F.linear returns, rewrites the history of the view's base and bypasses the
    view itself.
    """
    if not tensor.requires_grad:
        return None
    base = tensor._base
    whole = base is not None and base.numel() == tensor.numel() and base.is_contiguous() and tensor.is_contiguous()
    return get_gradient_edge(base if base is not None and whole and base.requires_grad else tensor)
