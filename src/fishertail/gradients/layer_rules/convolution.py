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
        weight, inputs, derivatives = (self._with_height(tensor) for tensor in (call.weight, inputs, derivatives))
        stride, dilation = (self._by_axis(call.options.get(name, 1), 1) for name in ("stride", "dilation"))
        padding = call.options.get("padding", 0)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            inputs = F.pad(inputs, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
        padding = (0, 0) if isinstance(padding, str) else self._by_axis(padding, 0)
        geometry = Geometry(weight.shape, stride, padding, dilation, call.options.get("groups", 1))
        return convolution_rows(geometry, inputs, derivatives, scale, "bias" in roles)

    def _with_height(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor with an axis for the height before that for the width."""
        return tensor

    def _by_axis(self, value: int | tuple[int, ...], height: int) -> tuple[int, int]:
        """An option for height and width; `height` is the former if the data have no height."""
        return (value, value) if isinstance(value, int) else (value[0], value[-1])


@treats(F.conv1d)
class Convolution1d(Convolution2d):
    """A convolution of sequences: pictures with a height of 1."""

    def _with_height(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.unsqueeze(2)

    def _by_axis(self, value: int | tuple[int, ...], height: int) -> tuple[int, int]:
        return height, value if isinstance(value, int) else value[0]
