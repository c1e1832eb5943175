"""Any other network, made by a function of your own."""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def function(path: str) -> "Callable[..., nn.Module]":
    """The function that package.module:function names."""
    module, _, name = path.partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    return found


def example(build: "Callable[..., nn.Module]", options: Mapping[str, Any]) -> "nn.Module":
    """A model for images of 3 x 32 x 32 and 10 classes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return build(shape=(3, 32, 32), classes=10, **options)


def layer_names(build: "Callable[..., nn.Module]", options: Mapping[str, Any]) -> list[str]:
    """The layers of a model, as measurements name them, for images of 3 x 32 x 32 and 10 classes."""
    modules = example(build, options).named_modules()
    return [name for name, module in modules if next(module.parameters(recurse=False), None) is not None]
