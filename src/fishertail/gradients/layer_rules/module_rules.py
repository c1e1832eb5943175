"""Rules that users register for modules of their own, keyed by the type of the module."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

ModuleRule = Callable[[Any, torch.Tensor, torch.Tensor], Mapping[str, torch.Tensor]]
MODULE_RULES: dict[type[nn.Module], ModuleRule] = {}


def register_layer_rule(module_type: type[nn.Module], rule: ModuleRule) -> None:
    """Give the per-sample gradients of a module of your own in closed form.

    A module without a rule is treated exactly, too, but has to be run once more for each batch. Every rule is compared
    with autograd before it is used, and ignored where the two differ.

    Args:
        module_type: the type of the modules that the rule treats; subclasses are not included.
        rule: called with the module, its first input (n, ...) and the derivative (n, ...) of the loss by its output,
            samples first in both. It returns the gradients (n, *parameter.shape) of the n samples for each trained
            parameter that the module itself owns, by the parameter's name in the module.

    Raises:
        TypeError: `module_type` is no subclass of `torch.nn.Module`.
    """
    if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
        raise TypeError(f"module_type: a subclass of torch.nn.Module expected, found {module_type!r}")
    MODULE_RULES[module_type] = rule
