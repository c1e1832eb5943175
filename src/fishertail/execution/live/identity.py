"""What makes two runs the same for a folder: all that decides the numbers, but for the weights, which change.

What is compared is the same in every process: there are no addresses in memory in it.
"""

import enum
import functools
import hashlib
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fishertail.execution.chosen import Chosen
from fishertail.execution.live.samples import WatchedSamples
from fishertail.results.storage import tensor_checksum

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLAIN = (
    bool | int | float | complex | str | bytes | range | slice | enum.Enum | np.generic | torch.dtype | torch.device
)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def identity_of(
    model: nn.Module,
    samples: WatchedSamples,
    chosen: Chosen,
    *,
    loss: Callable[..., torch.Tensor] | None,
    output: str | int | None,
    learning_rate: float | None,
    steps_per_epoch: float | None,
) -> dict[str, Any]:
    """All that must agree where a folder is gone on with, as JSON has it.

    `modules` is a hash of what the model's `repr` shows, activations for instance, and of functions that its modules
    hold. `loss_content` is one of the loss: its parameters, its code and defaults, and what it encloses, but not the
    code of functions that it calls.
    """
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if torch.is_tensor(tensor)}
    return {
        "model": f"{type(model).__qualname__} {_hash(shapes)}",
        "modules": _hash([_ADDRESS.sub("", repr(model)), _functions(model)]),
        "data": samples.content,
        "samples": samples.described,
        "measurements": dict(chosen.options),
        "loss": "cross entropy" if loss is None else _name(loss),
        "loss_content": None if loss is None else _hash(_content(loss)),
        "output": output,
        "learning_rate": _plain(learning_rate),
        "steps_per_epoch": _plain(steps_per_epoch),
    }


def _plain(number: Any) -> Any:
    """As JSON has it, of NumPy or torch, too."""
    return number.item() if hasattr(number, "item") else number


def _name(loss: Callable[..., torch.Tensor]) -> str:
    return str(getattr(loss, "__qualname__", _ADDRESS.sub("", repr(loss))))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _functions(model: nn.Module) -> dict[str, Any]:
    """Functions in attributes, such as an activation, which `repr` does not show."""
    kinds = (types.FunctionType, types.BuiltinFunctionType, functools.partial)
    return {
        f"{path}.{name}": _content(value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, kinds) and name != "forward"  # which other packages wrap
    }


def _content(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """What a loss consists of, as JSON has it.

    What it only holds on to, such as the network or a trainer, is named, since its content changes with training.
    """
    if value is None or value is ... or isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in inside:
        return "itself"
    below = functools.partial(_content, inside=(*inside, id(value)))
    match value:
        case torch.Tensor():
            return [list(value.shape), "trained" if value.requires_grad else _checksum({"": value})]
        case np.ndarray():
            return [str(value.dtype), below(value.tolist())]
        case Mapping():
            return [[below(key), below(each)] for key, each in value.items()]
        case set() | frozenset():
            return sorted(json.dumps(below(each)) for each in value)
        case list() | tuple():
            return [below(each) for each in value]
        case functools.partial():
            return [_content(value.func, inside), below(value.args), below(value.keywords)]
        case types.MethodType():
            return [below(value.__func__), below(value.__self__)]
        case types.FunctionType():
            return _of_function(value, below)
        case types.CodeType():
            return [value.co_code.hex(), value.co_names, below(value.co_consts)]
        case nn.Module() if not inside or next(value.parameters(), None) is None:
            return _of_module(value, below)
        case nn.Module():
            return [_qualified(type(value)), _ADDRESS.sub("", repr(value))]
        case _ if not inside and hasattr(value, "__dict__"):
            return [_qualified(type(value)), below(vars(value))]
    return _qualified(value if hasattr(value, "__qualname__") else type(value))


def _of_module(module: nn.Module, below: Callable[[Any], Any]) -> Any:
    """Its tensors, and the classes and other attributes of all modules in it."""
    parts = {
        name: [_qualified(type(each)), {key: v for key, v in vars(each).items() if key not in _OF_EVERY_MODULE}]
        for name, each in module.named_modules()
    }
    return [_checksum(dict(module.named_parameters()) | dict(module.named_buffers())), below(parts)]


def _of_function(function: types.FunctionType, below: Callable[[Any], Any]) -> Any:
    """Its name and, unless it is torch's own, its code with what that encloses."""
    named = _qualified(function)
    if named.startswith("torch."):  # whose code another version may write differently
        return named
    enclosed = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]  # not empty
    given = [function.__defaults__, function.__kwdefaults__, enclosed]
    return [named, below(function.__code__), below(given)]


def _qualified(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    return tensor_checksum({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
