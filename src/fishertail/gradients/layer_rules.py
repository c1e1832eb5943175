"""How rows follow from what a layer was given and the derivative by its output: a rule for each kind of layer.

Rules are keyed by the function of torch that a layer ends in (`F.linear`, `F.conv2d`, ...) and not by the module's
type, so that they hold as well for modules that call several of these, and for weights that are tied or called
repeatedly. For a module of one's own, whose parameters go into other operations, see `register_layer_rule`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fishertail.gradients.convolution_rows import Geometry, convolution_rows
from fishertail.gradients.rows import DenseRows, LinearRows, Rows
from fishertail.gradients.shared_rows import outer_product_rows

ModuleRule = Callable[[nn.Module, torch.Tensor, torch.Tensor], Mapping[str, torch.Tensor]]
MODULE_RULES: dict[type[nn.Module], ModuleRule] = {}


def register_layer_rule(module_type: type[nn.Module], rule: ModuleRule) -> None:
    """Give the per-sample gradients of a module of your own in closed form.

    Without a rule such a module is exact, too, at the price of running it once more for each batch. Every rule is
    compared with autograd before it is used, and passed over where it does not fit.

    Args:
        module_type: the type of the modules that the rule treats; subclasses are left out.
        rule: called with the module, its first input (n, ...) and the derivative (n, ...) of the loss by its output,
            the samples first in both; returns, for each trained parameter that the module owns itself, by its name
            there, the gradients (n, *parameter.shape) of the n samples.
    """
    if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
        raise TypeError(f"module_type: a subclass of torch.nn.Module expected, found {module_type!r}")
    MODULE_RULES[module_type] = rule


@dataclass(frozen=True)
class Call:
    """A call of a function by its arguments."""

    input: torch.Tensor
    parameters: Mapping[str, torch.Tensor | None]  # weight and bias, as far as the call has them
    options: Mapping[str, Any]


class FunctionRule:
    """What is known of a function of torch: its arguments, and the rows of its weight and bias."""

    names: tuple[str, ...] = ("input", "weight", "bias")  # of the positional arguments

    def bind(self, args: tuple, kwargs: Mapping[str, Any]) -> Call:
        """Put the arguments of a call in order."""
        given = dict(zip(self.names, args, strict=False)) | dict(kwargs)
        parameters = {name: given.pop(name, None) for name in ("weight", "bias")}
        return Call(given.pop("input"), parameters, given)

    def applies(self, call: Call) -> bool:
        """Whether the rule covers the call's options."""
        return True

    def run(self, function: Callable, call: Call) -> torch.Tensor:
        """Call the function."""
        given = {name: value for name, value in call.parameters.items() if name in self.names}
        return function(**{"input": call.input, **given, **call.options})

    def rows(
        self, call: Call, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        """The rows of the parameters in `roles`, side by side.

        Args:
            roles: ("weight",), ("bias",) or both in this order.
            inputs: (n, ...) the call's input, the samples first.
            derivatives: (n, ...) by its output.
            scale: (n,) float64, by which the derivatives were divided.
        """
        gradients = self.gradients(call, inputs, derivatives)
        return DenseRows(torch.cat([gradients[role].flatten(1) for role in roles], dim=1), scale)

    def gradients(self, call: Call, inputs: torch.Tensor, derivatives: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """(n, *shape) of weight and bias."""
        raise NotImplementedError


class Linear(FunctionRule):
    """y = W h + b, over one position or several that share the weights."""

    def rows(self, call, roles, inputs, derivatives, scale):
        if "weight" not in roles:
            return DenseRows(derivatives.flatten(1, -2).sum(1) if derivatives.ndim > 2 else derivatives, scale)
        if inputs.ndim == 2:
            return LinearRows(derivatives, inputs, scale, "bias" in roles)
        left, right = derivatives.flatten(1, -2), inputs.flatten(1, -2)
        return outer_product_rows(left, right, scale, left.shape[2], "bias" in roles)


class Embedding(FunctionRule):
    """A look-up table: row i of the weight at each position where the input is i."""

    names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")

    def applies(self, call):
        return not call.options.get("scale_grad_by_freq")

    def run(self, function, call):
        options, weight = dict(call.options, sparse=False), call.parameters["weight"]
        if (max_norm := options.pop("max_norm", None)) is not None:  # would renormalise the user's weights in place
            with torch.no_grad():
                limited = weight.detach().clone()
                torch.embedding_renorm_(limited, call.input.contiguous(), max_norm, options.get("norm_type", 2.0))
            weight = weight + (limited - weight.detach())
        return function(call.input, weight, **options)

    def rows(self, call, roles, inputs, derivatives, scale):
        width = derivatives.shape[-1]
        left, right = inputs.reshape(len(inputs), -1), derivatives.reshape(len(inputs), -1, width)
        if (padding := call.options.get("padding_idx")) is not None:
            padding %= len(call.parameters["weight"])
            right = torch.where((left == padding)[:, :, None], 0.0, right)
        return outer_product_rows(left.long(), right, scale, len(call.parameters["weight"]), False)


class Convolution(FunctionRule):
    """Convolutions of one and two dimensions; one is two with a height of 1."""

    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    def __init__(self, dimensions: int):
        self._dimensions = dimensions

    def rows(self, call, roles, inputs, derivatives, scale):
        if "weight" not in roles:
            return DenseRows(derivatives.flatten(2).sum(2), scale)
        weight = call.parameters["weight"]
        stride, dilation = (self._both(call.options.get(name, 1), 1) for name in ("stride", "dilation"))
        padding = call.options.get("padding", 0)
        if self._dimensions == 1:
            weight, inputs, derivatives = weight[:, :, None], inputs[:, :, None], derivatives[:, :, None]
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            inputs = F.pad(inputs, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
        padding = (0, 0) if isinstance(padding, str) else self._both(padding, 0)
        geometry = Geometry(weight.shape, stride, padding, dilation, call.options.get("groups", 1))
        return convolution_rows(geometry, inputs, derivatives, scale, "bias" in roles)

    def _both(self, value: int | tuple[int, ...], above: int) -> tuple[int, int]:
        values = (value,) * self._dimensions if isinstance(value, int) else tuple(value)
        values = values * self._dimensions if len(values) == 1 else values
        return values if len(values) == 2 else (above, *values)


class ChannelNormalisation(FunctionRule):
    """A normalisation whose weight and bias are by channel, the axis after the samples."""

    def __init__(self, function: Callable, *names: str):
        self._function, self.names = function, ("input", *names)

    def applies(self, call):
        return not call.options.get("training")

    def gradients(self, call, inputs, derivatives):
        products = derivatives * self._function(**{"input": inputs, **call.options})
        if inputs.ndim == 2:
            return {"weight": products, "bias": derivatives}
        return {"weight": products.flatten(2).sum(2), "bias": derivatives.flatten(2).sum(2)}


class InnerNormalisation(FunctionRule):
    """A normalisation over the last axes, which have a weight and a bias for each entry."""

    def __init__(self, function: Callable, *names: str):
        self._function, self.names = function, ("input", *names)

    def gradients(self, call, inputs, derivatives):
        products = derivatives * self._function(**{"input": inputs, **call.options})
        shared = tuple(range(1, inputs.ndim - len(call.options["normalized_shape"])))
        return (
            {"weight": products.sum(shared), "bias": derivatives.sum(shared)}
            if shared
            else {
                "weight": products,
                "bias": derivatives,
            }
        )


class PReLU(FunctionRule):
    """max(0, h) + w min(0, h), w by channel or one for all."""

    names = ("input", "weight")

    def gradients(self, call, inputs, derivatives):
        products = (derivatives * inputs.clamp_max(0)).unsqueeze(-1).flatten(2).sum(2)
        return {"weight": products if call.parameters["weight"].numel() > 1 else products.sum(1, keepdim=True)}


FUNCTION_RULES: dict[Callable, FunctionRule] = {
    F.linear: Linear(),
    F.embedding: Embedding(),
    F.conv1d: Convolution(1),
    F.conv2d: Convolution(2),
    F.batch_norm: ChannelNormalisation(
        F.batch_norm, "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
    ),
    F.group_norm: ChannelNormalisation(F.group_norm, "num_groups", "weight", "bias", "eps"),
    F.instance_norm: ChannelNormalisation(
        F.instance_norm, "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"
    ),
    F.layer_norm: InnerNormalisation(F.layer_norm, "normalized_shape", "weight", "bias", "eps"),
    F.rms_norm: InnerNormalisation(F.rms_norm, "normalized_shape", "weight", "eps"),
    F.prelu: PReLU(),
}
