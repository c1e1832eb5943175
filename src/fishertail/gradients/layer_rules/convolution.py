"""Convolutions of one and two dimensions."""

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rows.convolution import Geometry, convolution_rows
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


@treats(F.conv2d)
class Convolution2d(LayerRule):
    """A convolution of pictures."""

    argument_names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    def rows(
        self, call: Call, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        if "weight" not in roles:
            return DenseRows(derivatives.flatten(2).sum(2), scale)
        weight = call.parameters["weight"]
        assert weight is not None
        return self._rows_2d(call, weight, inputs, derivatives, scale, "bias" in roles)

    def _rows_2d(
        self,
        call: Call,
        weight: torch.Tensor,
        inputs: torch.Tensor,
        derivatives: torch.Tensor,
        scale: torch.Tensor,
        bias: bool,
    ) -> Rows:
        """Rows of tensors that have a height and a width."""
        stride, dilation = (self._of_height_and_width(call.options.get(name, 1), 1) for name in ("stride", "dilation"))
        padding = call.options.get("padding", 0)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            inputs = F.pad(inputs, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
        padding = (0, 0) if isinstance(padding, str) else self._of_height_and_width(padding, 0)
        geometry = Geometry(weight.shape, stride, padding, dilation, call.options.get("groups", 1))
        return convolution_rows(geometry, inputs, derivatives, scale, bias)

    def _of_height_and_width(self, value: int | tuple[int, ...], height: int) -> tuple[int, int]:
        """An option for both axes. `height` is its value along the height where the data have none."""
        if isinstance(value, int):
            return value, value
        return (value[0], value[-1])


@treats(F.conv1d)
class Convolution1d(Convolution2d):
    """A convolution of sequences: pictures with a height of 1."""

    def _rows_2d(
        self,
        call: Call,
        weight: torch.Tensor,
        inputs: torch.Tensor,
        derivatives: torch.Tensor,
        scale: torch.Tensor,
        bias: bool,
    ) -> Rows:
        weight, inputs, derivatives = weight[:, :, None], inputs[:, :, None], derivatives[:, :, None]
        return super()._rows_2d(call, weight, inputs, derivatives, scale, bias)

    def _of_height_and_width(self, value: int | tuple[int, ...], height: int) -> tuple[int, int]:
        return (height, value if isinstance(value, int) else value[0])
