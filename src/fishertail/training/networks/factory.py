"""Any other network, made by a function of your own."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def function(path: str) -> "Callable[..., nn.Module]":
    """The function that package.module:function names."""
    module, _, name = path.partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    return found


_KNOWN = ("fishertail", "__main__", "__mp_main__")  # of which a job's code is known; its script names the job


def code(path: str) -> str:
    """A hash of the user's files that a network may come from: the factory's package, and all that is not installed.

    Args:
        path: package.module:function; the module is imported.
    """
    module = path.partition(":")[0]
    importlib.import_module(module)
    digest = hashlib.sha256()
    for name, imported in sorted(sys.modules.items()):
        package, file = name.partition(".")[0], getattr(imported, "__file__", None)
        if file is None or package in _KNOWN or not Path(file).is_file():
            continue
        if package == module.partition(".")[0] or not file.startswith((sys.prefix, sys.base_prefix)):
            digest.update(name.encode() + Path(file).read_bytes())
    return digest.hexdigest()


def example(build: "Callable[..., nn.Module]", options: Mapping[str, Any]) -> "nn.Module":
    """A model for images of 3 x 32 x 32 and 10 classes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return build(shape=(3, 32, 32), classes=10, **options)


def layer_names(build: "Callable[..., nn.Module]", options: Mapping[str, Any]) -> list[str]:
    """The layers of a model, as measurements name them, for images of 3 x 32 x 32 and 10 classes."""
    modules = example(build, options).named_modules()
    return [name for name, module in modules if next(module.parameters(recurse=False), None) is not None]
