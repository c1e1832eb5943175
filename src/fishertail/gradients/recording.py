"""One forward pass of the network, and what it leaves for every sample's gradient from one backward pass.

Calls of torch functions that take trained Parameters are recorded: their input, and the place of their output in
autograd's graph (a gradient edge, which in-place operations after it do not break).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.gradients.gradient_plan import Signature
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.decomposition import DECOMPOSITIONS
from fishertail.gradients.layer_rules.module_rules import ModuleRule
from fishertail.gradients.layer_rules.rule import LAYER_RULES, Call, LayerRule
from fishertail.gradients.private_copy import Place, substituted


class Removable(Protocol):
    """The handle of a hook, or whatever else is to be ended after a forward pass."""

    def remove(self) -> None: ...


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
        apart: ids of Parameters of which every recorded use takes a leaf of its own, so that the outputs depend on
            the Parameter itself only by what is not recorded.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        repeated: frozenset[int] = frozenset(),
        samples: int = 1,
        apart: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.recording = Recording()
        self.quiet = 0  # depth of the open modules that have a rule of their own
        self._names, self._repeated, self._samples, self._apart = names, repeated, samples, apart

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
        if not parameters or self.quiet or is_functorch_wrapped_tensor(call.input):  # inside torch.func, as of forces
            return rule.run(call)
        taken = {
            role: own_leaf(tensor) if id(tensor) in self._apart and tensor is not None else tensor
            for role, tensor in call.parameters.items()
        }
        output = rule.run(replace(call, parameters=taken))
        given, output = self._repeat(call.input, output)
        self.recording.uses.append(FunctionUse(parameters, given.detach(), output.shape, _edge(output), rule, call))
        return output

    def module_hooks(self, module: nn.Module, rule: ModuleRule, parameters: Mapping[str, str]) -> list[Removable]:
        """Record the calls of a module as uses of its rule. Returns the hooks' handles."""

        leaves = {
            (module, attribute): own_leaf(parameter)
            for attribute, parameter in module._parameters.items()
            if id(parameter) in self._apart and parameter is not None
        }
        open_calls = OpenCalls()

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            open_calls.enter(leaves)
            self.quiet += 1

        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            open_calls.leave()
            self.quiet -= 1
            given, output = self._repeat(args[0] if args else next(iter(kwargs.values())), output)
            use = ModuleUse(parameters, given.detach(), output.shape, _edge(output), rule, module)
            self.recording.uses.append(use)
            return output

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
            open_calls,
        ]

    def _repeat(self, given: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and output of the next use, repeated for each sample where they are to be."""
        if len(self.recording.uses) not in self._repeated:
            return given, output
        return given.expand(self._samples, *given.shape), output.expand(self._samples, *output.shape)


class OpenCalls:
    """The calls of a module that are under way, each with leaves in the place of Parameters."""

    def __init__(self) -> None:
        self._contexts: list[ExitStack] = []

    def enter(self, leaves: Mapping[Place, torch.Tensor]) -> None:
        """A call begins."""
        context = ExitStack()
        context.enter_context(substituted(leaves))
        self._contexts.append(context)

    def leave(self) -> None:
        """The last call that began has ended."""
        self._contexts.pop().close()

    def remove(self) -> None:
        """End what an exception has left open."""
        while self._contexts:
            self.leave()


def watch(module: nn.Module, name: str, recording: Recording, leaves: Mapping[Place, torch.Tensor]) -> list[Removable]:
    """Record the calls of a module with all their arguments. Returns the hooks' handles.

    Args:
        leaves: that take the place of Parameters during these calls.
    """
    pending: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    open_calls = OpenCalls()

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        open_calls.enter(leaves)
        pending.append(tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (args, kwargs)))

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        open_calls.leave()
        recording.calls.setdefault(name, []).append(ModuleCall.of(*pending.pop(), output))

    return [
        module.register_forward_pre_hook(before, prepend=True, with_kwargs=True),  # before hooks that compute weights
        module.register_forward_hook(after, with_kwargs=True),
        open_calls,
    ]


def own_leaf(tensor: torch.Tensor) -> torch.Tensor:
    """A leaf of autograd's graph that shares a tensor's memory."""
    return tensor.detach().requires_grad_()


def gradients_at(
    outputs: torch.Tensor, edges: Sequence[GradientEdge | None], derivatives: torch.Tensor, again: bool = False
) -> list[torch.Tensor | None]:
    """The derivatives of (outputs * derivatives).sum() at the edges, None where none reaches them.

    Args:
        again: whether the graph is kept for another backward pass.
    """
    wanted = [edge for edge in edges if edge is not None]
    if not wanted or not outputs.requires_grad:
        return [None] * len(edges)
    found = iter(torch.autograd.grad(outputs, wanted, derivatives, retain_graph=again, allow_unused=True))
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
