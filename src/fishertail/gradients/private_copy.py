"""A private copy of the user's model, so that nothing that is done here can change the model itself.

The modules are copied, the Parameters and buffers are shared. Hooks, substituted weights and whatever a module writes
into itself during a call stay in the copy, also after an exception.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


def private_copy(model: nn.Module) -> nn.Module:
    """The copy of a model. Compiled scripts, which cannot be copied in this way, are themselves part of it."""
    copies: dict[int, nn.Module] = {}
    for module in model.modules():
        if is_script(module):
            copies[id(module)] = module
            continue
        copies[id(module)] = copy = module.__new__(type(module))
        copy.__dict__.update(module.__dict__)
        for name in _CONTAINERS:
            copy.__dict__[name] = module.__dict__[name].copy()
        copy.__dict__["_compiled_call_impl"] = None  # of module.compile(), whose code calls nothing that is recorded
        if isinstance(module, nn.RNNBase):
            copy.__dict__["_flat_weights"] = list(module._flat_weights)
    for copy in copies.values():
        if is_script(copy):
            continue
        for name, child in copy._modules.items():
            if child is not None:
                copy._modules[name] = copies[id(child)]
    return copies[id(model)]


def is_script(module: nn.Module) -> bool:
    """Whether a module is compiled by TorchScript, so that its calls cannot be recorded."""
    return isinstance(module, torch.jit.ScriptModule)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's wrapper, whose compiled code calls no function that could be recorded."""
    inner: Any = getattr(model, "_orig_mod", None)
    return inner if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) else model


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, moved to a device in place. Tied Parameters stay tied; on some devices torch makes new ones."""
    shared: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                shared.setdefault(id(parameter), []).append((module, name))
    model.to(device)
    for (first, its_name), *others in shared.values():
        for module, name in others:
            if module._parameters[name] is not first._parameters[its_name]:
                module._parameters[name] = first._parameters[its_name]
    return model


@contextmanager
def substituted(tensors: Mapping[tuple[nn.Module, str], torch.Tensor]) -> Iterator[None]:
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
