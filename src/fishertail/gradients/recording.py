"""One forward pass of the network, and what is needed of it to get every sample's gradient from one backward pass.

Functions of torch that take trained Parameters are recorded as they are called: their input, and the place of their
output in the graph (a gradient edge, which in-place operations after it do not break).
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.gradients.layer_rules import FUNCTION_RULES, Call, FunctionRule, ModuleRule
from fishertail.gradients.recurrent import CELLS, LAYERS, padded


@dataclass(frozen=True)
class Use:
    """A call that takes trained Parameters, by a rule."""

    rule: FunctionRule | ModuleRule
    parameters: Mapping[str, str]  # role in the call: name in the network
    call: Call | nn.Module
    input: torch.Tensor
    shape: torch.Size  # of the output
    edge: GradientEdge | None  # None where no gradient can reach it

    @property
    def signature(self) -> tuple:
        """What is the same in every batch."""
        return self.rule, tuple(self.parameters.items())


@dataclass(frozen=True)
class ModuleCall:
    """A call of a module that is to be run again for each sample."""

    args: tuple
    kwargs: Mapping[str, Any]
    shapes: tuple[torch.Size, ...]  # of the tensors in its output
    edges: tuple[GradientEdge | None, ...]


@dataclass
class Recording:
    """What one forward pass left."""

    outputs: Any = None
    uses: list[Use] = field(default_factory=list)
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)  # of the modules that were watched


class Recorder(TorchFunctionMode):
    """Records the functions called while it is open.

    Args:
        names: of the trained Parameters, by id.
        repeated: numbers of the uses whose output has no samples (a position embedding): it is repeated for each of
            them.
        samples: in the batch.
    """

    def __init__(self, names: Mapping[int, str], repeated: frozenset[int] = frozenset(), samples: int = 1):
        super().__init__()
        self.recording = Recording()
        self.quiet = 0  # depth of modules that have a rule of their own
        self._names, self._repeated, self._samples = names, repeated, samples

    def __torch_function__(self, func, types_, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:  # its linear layers are recorded one by one
                return _ATTENTION(*args, **kwargs)
        if (func in LAYERS and padded(args) and not kwargs) or func in CELLS:
            with self:  # likewise
                return (LAYERS | CELLS)[func](*args, **kwargs)
        rule = FUNCTION_RULES.get(func)
        if rule is None:
            return func(*args, **kwargs)
        call = rule.bind(args, kwargs)
        parameters = {
            role: self._names[id(tensor)] for role, tensor in call.parameters.items() if id(tensor) in self._names
        }
        if not rule.applies(call):
            return func(*args, **kwargs)
        output = rule.run(func, call)
        return output if not parameters or self.quiet else self._recorded(rule, parameters, call, call.input, output)

    def module_hooks(self, module: nn.Module, rule: ModuleRule, parameters: Mapping[str, str]) -> list:
        """Record the calls of a module by a rule of its own; gives the hooks' handles."""

        def before(module, args, kwargs):
            self.quiet += 1

        def after(module, args, kwargs, output):
            self.quiet -= 1
            given = args[0] if args else next(iter(kwargs.values()))
            return self._recorded(rule, parameters, module, given, output)

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    def _recorded(self, rule, parameters, call, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        number = len(self.recording.uses)
        if number in self._repeated:
            output = output.expand(self._samples, *output.shape)
            given = given.expand(self._samples, *given.shape)
        edge = _edge(output)
        self.recording.uses.append(Use(rule, parameters, call, given.detach(), output.shape, edge))
        return output


def watch(module: nn.Module, name: str, recording: Recording) -> list:
    """Record the calls of a module with all arguments; gives the hooks' handles."""
    pending: list[tuple] = []

    def before(module, args, kwargs):
        pending.append(tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (args, kwargs)))

    def after(module, args, kwargs, output):
        recording.calls.setdefault(name, []).append(module_call(*pending.pop(), output))

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def module_call(args: tuple, kwargs: Mapping[str, Any], output: Any) -> ModuleCall:
    """What is kept of a call with arguments that are detached."""
    tensors = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]
    return ModuleCall(args, kwargs, tuple(tensor.shape for tensor in tensors), tuple(map(_edge, tensors)))


def _edge(tensor: torch.Tensor) -> GradientEdge | None:
    """Where the derivative by a tensor will come by; None where none does.

    An in-place operation on a view, as F.linear returns it, rewrites the history of the view's base, past the view.
    """
    if not tensor.requires_grad:
        return None
    base = tensor._base
    whole = base is not None and base.numel() == tensor.numel() and base.is_contiguous() and tensor.is_contiguous()
    return get_gradient_edge(base if whole and base.requires_grad else tensor)


def gradients_at(
    outputs: torch.Tensor, edges: Sequence[GradientEdge | None], derivatives: torch.Tensor
) -> list[torch.Tensor | None]:
    """The derivatives of (outputs * derivatives).sum() at the edges, None where none reaches them."""
    wanted = [edge for edge in edges if edge is not None]
    if not wanted or not outputs.requires_grad:
        return [None] * len(edges)
    found = iter(torch.autograd.grad(outputs, wanted, derivatives, allow_unused=True))
    return [None if edge is None else next(found) for edge in edges]


def _opened(function: types.FunctionType) -> Callable:
    """A function of torch.nn.functional that does not hand itself to the mode, so that what it calls is recorded."""
    scope = {**function.__globals__, "has_torch_function": lambda *_: False}
    opened = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


_ATTENTION = _opened(F.multi_head_attention_forward)
