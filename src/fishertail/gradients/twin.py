"""A private double of the user's model, so that nothing that is done here can change the model itself.

The modules are doubled, the Parameters and buffers are shared. Hooks, substituted weights and whatever a module writes
into itself during a call stay in the double, also after an exception.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


def twin_of(model: nn.Module) -> nn.Module:
    """The double of a model; compiled scripts, which cannot be doubled, are in it themselves."""
    doubles: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            doubles[id(module)] = module
            continue
        doubles[id(module)] = double = module.__new__(type(module))
        double.__dict__.update(module.__dict__)
        for name in _CONTAINERS:
            double.__dict__[name] = module.__dict__[name].copy()
        double.__dict__["_compiled_call_impl"] = None  # of module.compile(), which would not be seen through
        if isinstance(module, nn.RNNBase):
            double.__dict__["_flat_weights"] = list(module._flat_weights)
    for double in doubles.values():
        if isinstance(double, torch.jit.ScriptModule):
            continue
        for name, child in double._modules.items():
            if child is not None:
                double._modules[name] = doubles[id(child)]
    return doubles[id(model)]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's wrapper: compiled code calls no function that could be recorded."""
    return model._orig_mod if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) else model


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, moved to a device in place, shared Parameters still shared: on some devices torch makes new ones."""
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
    """Put tensors in the place of Parameters of the double while it is open."""
    owned = {place: place[0]._parameters[place[1]] for place in tensors}
    try:
        for (module, name), tensor in tensors.items():
            if tensor is not owned[module, name]:
                module._parameters[name] = tensor
        yield
    finally:
        for (module, name), parameter in owned.items():
            if module._parameters[name] is not parameter:
                module._parameters[name] = parameter
