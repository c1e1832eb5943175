"""`LayerRule`: how the rows of a function's parameters follow from its input and the derivative by its output.

Rules are keyed by the function of torch that a layer ends in (`F.linear`, `F.conv2d`, ...) and not by the module's
type, so that they also hold for modules that call several of these, and for weights that are tied or used repeatedly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.protocol import Rows

Function = Callable[..., Any]
Rule = TypeVar("Rule", bound=type["LayerRule"])
LAYER_RULES: dict[Function, "LayerRule"] = {}  # of each function that has one


def treats(*functions: Function) -> Callable[[Rule], Rule]:
    """Register the class below as the rule of these functions of torch.

    Raises:
        ValueError: a function has a rule already.
    """

    def register(rule: Rule) -> Rule:
        for function in functions:
            if function in LAYER_RULES:
                other = type(LAYER_RULES[function]).__name__
                raise ValueError(f"{function.__name__}: one rule expected, found {other} and {rule.__name__}")
            LAYER_RULES[function] = rule(function)
        return rule

    return register


@dataclass(frozen=True)
class Call:
    """The arguments of one call of a function."""

    input: torch.Tensor
    parameters: Mapping[str, torch.Tensor | None]  # weight and bias; None where the call has none
    options: Mapping[str, Any]

    @property
    def weight(self) -> torch.Tensor:
        """The weight, of a call that has one."""
        weight = self.parameters["weight"]
        assert weight is not None
        return weight


class LayerRule:
    """What is known of a function of torch: its arguments, and the gradients of its weight and bias.

    A subclass decorated with `treats` defines `gradients`, or `rows` where the gradients have a factored form.
    """

    argument_names: tuple[str, ...] = ("input", "weight", "bias")  # of the positional arguments, in order

    def __init__(self, function: Function) -> None:
        self.function = function

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The arguments of a call by their names."""
        given = dict(zip(self.argument_names, args, strict=False)) | dict(kwargs)
        parameters = {name: given.pop(name, None) for name in ("weight", "bias")}
        return Call(given.pop("input"), parameters, given)

    def applies(self, call: Call) -> bool:
        """Whether the rule covers the call's options."""
        return True

    def run(self, call: Call) -> torch.Tensor:
        """The output of the function."""
        given = {name: value for name, value in call.parameters.items() if name in self.argument_names}
        output: torch.Tensor = self.function(**{"input": call.input, **given, **call.options})
        return output

    def rows(
        self, call: Call, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        """The rows of the parameters in `roles`, side by side.

        Args:
            roles: ("weight",), ("bias",) or both in this order.
            inputs: (n, ...) the call's input, samples first.
            derivatives: (n, ...) of the loss by the call's output, samples first.
            scale: (n,) float64, by which the derivatives were divided.
        """
        gradients = self.gradients(call, inputs, derivatives)
        return DenseRows(torch.cat([gradients[role].flatten(1) for role in roles], dim=1), scale)

    def gradients(self, call: Call, inputs: torch.Tensor, derivatives: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """(n, *shape) by role: the gradients of weight and bias. Arguments as in `rows`."""
        raise NotImplementedError
