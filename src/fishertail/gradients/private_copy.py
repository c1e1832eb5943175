"""A private copy of the user's model, so that nothing that is done here can change the model itself.

The modules and buffers are copied, and the Parameters are new ones that share the memory of the user's. Hooks,
substituted weights and whatever a module writes into itself during a call stay in the copy, also after an exception.
"""

import copy
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fishertail.errors import UnsupportedModelError

Place = tuple[nn.Module, str]  # of a parameter: a module that owns it, and its name there
LOW_PRECISION = (torch.bfloat16, torch.float16)
_CONTAINERS = ("_parameters", "_buffers", "_modules")  # which always refer to the copies
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_DEEP = "_copied_deeply"  # of a copy: copies of it have to be deep, too


@torch.inference_mode(False)
def private_copy(model: nn.Module, deep: bool = False) -> nn.Module:
    """The copy of a model. Compiled scripts, which cannot be copied in this way, are themselves part of it.

    Args:
        deep: copy whatever else the modules hold, too, so that a plain list of modules or a method bound to the model
            belongs to the copy as well. What cannot be copied is shared.
    """
    deep = deep or _DEEP in model.__dict__
    copies = {id(module): module if is_script(module) else _empty(module) for module in model.modules()}
    memo: dict[int, Any] = {**copies, **_parameters_by_id(model, lambda parameter: parameter)}  # which share memory
    for module in model.modules():
        if is_script(module):
            continue
        own = copies[id(module)].__dict__
        for name, value in module.__dict__.items():
            own[name] = _deep_copy(value, memo) if deep or name in _CONTAINERS else value
        for name in _HOOKS:
            own[name] = own[name].copy()
        own["_compiled_call_impl"] = None  # of module.compile(), whose code calls nothing that is recorded
        if isinstance(module, torch._dynamo.eval_frame.OptimizedModule):
            own["forward"] = copies[id(module._orig_mod)]
        if isinstance(module, nn.RNNBase):
            own["_flat_weights"] = [memo.get(id(weight), weight) for weight in module._flat_weights]
    result = copies[id(model)]
    if deep:
        result.__dict__[_DEEP] = True
    return result


def _empty(module: nn.Module) -> nn.Module:
    """A module of the same type without anything; `__new__` of a traced module would make another type."""
    made: nn.Module = object.__new__(type(module))
    return made


def _parameters_by_id(model: nn.Module, values: Callable[[torch.Tensor], torch.Tensor]) -> dict[int, nn.Parameter]:
    """New Parameters for the model's, by the ids of these; `values` gives theirs."""
    found = {}
    for module in model.modules():
        if not is_script(module):
            for parameter in module._parameters.values():
                if parameter is not None and id(parameter) not in found:
                    found[id(parameter)] = nn.Parameter(values(parameter.detach()), parameter.requires_grad)
    return found


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    """A copy in which what the memo has by its id is replaced; the value itself where it cannot be copied."""
    new: dict[int, Any] = {}
    try:
        copied = copy.deepcopy(value, ChainMap(new, memo))  # type: ignore[arg-type]
    except Exception:  # of whatever kind: a lock, an open file, a tensor with a history
        return value
    memo.update(new)
    return copied


def is_script(module: nn.Module) -> bool:
    """Whether a module is compiled by TorchScript, so that its calls cannot be recorded."""
    return isinstance(module, torch.jit.ScriptModule)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's wrapper, whose compiled code calls no function that could be recorded."""
    inner: Any = getattr(model, "_orig_mod", None)
    return inner if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) else model


def computable(model: nn.Module, own: torch.device, device: torch.device) -> nn.Module:
    """The model itself where it can be computed with as it is, or a copy on the device, in float32 at least."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    for_inference = any(parameter.is_inference() for parameter in model.parameters())
    low_precision = not kinds.isdisjoint(LOW_PRECISION)
    scripted = any(map(is_script, model.modules()))  # has no private copy that shares its Parameters
    if device == own and not (low_precision or for_inference or scripted):
        return model
    try:
        with torch.inference_mode(False):  # `to` alone would make new Parameters on some devices, in place of tied ones
            memo = _parameters_by_id(model, lambda parameter: parameter.to(device, copy=True))
            model = copy.deepcopy(model, memo).to(device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"the model cannot be copied to another device or precision ({error}); move it there before the call"
        ) from error
    return model.float() if low_precision else model


@contextmanager
def substituted(tensors: Mapping[Place, torch.Tensor]) -> Iterator[None]:
    """A context in which tensors replace Parameters of the copy, by module and name."""
    owned = {place: place[0]._parameters[place[1]] for place in tensors}
    try:
        for (module, name), tensor in tensors.items():
            if tensor is not owned[module, name]:
                module._parameters[name] = tensor  # type: ignore[assignment]
        yield
    finally:
        for (module, name), parameter in owned.items():
            if module._parameters[name] is not parameter:
                module._parameters[name] = parameter
