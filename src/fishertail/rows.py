"""Rows of the gradient matrix G of one layer, for a batch of samples: factored where a factored form exists.

Row x is scale_x * g_x: the stored part is kept near 1 by powers of two, so that float32 loses no small gradient; the
scales are float64. Vectors of a layer's parameter space are flat: weight, then bias, as `parameters()` has them.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

_SAMPLES_IN_CACHE = 32  # of a convolution's windows: 8 to 32 were fastest
NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Rows(Protocol):
    """n rows of a layer's gradient matrix, over P parameters."""

    def norms(self) -> torch.Tensor:
        """(n,) float64: |g_x|, not by its square, which would vanish below 1e-162."""

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, k) float64: g_x . v for the k rows of `vectors` (k, P)."""

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        """Add the sum over x of c_x g_x to the k rows of `sums` (k, P), for the columns of `coefficients` (n, k)."""

    def gram(self) -> torch.Tensor:
        """(n, n) float64: g_x . g_y."""

    @property
    def nbytes(self) -> int:
        """Memory that the rows hold."""

    def take(self, positions: torch.Tensor | slice) -> "Rows":
        """The rows at `positions`."""

    def empty(self, samples: int) -> "Rows":
        """Room for rows of the same layer."""

    def fill(self, start: int, rows: "Rows") -> None:
        """Overwrite the rows from `start` on."""


class _Stored:
    """What all rows do alike with the tensors that hold them, whose first axis is the samples."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def take(self, positions):
        return replace(self, **{name: tensor[positions] for name, tensor in self._tensors().items()})

    def empty(self, samples: int):
        empty = {name: tensor.new_empty(samples, *tensor.shape[1:]) for name, tensor in self._tensors().items()}
        return replace(self, **empty)

    def fill(self, start: int, rows) -> None:
        for name, tensor in rows._tensors().items():
            getattr(self, name)[start : start + len(tensor)] = tensor

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}


@dataclass(frozen=True)
class FactoredRows(_Stored):
    """A linear layer: g_x = scale_x * (d_x h_x^T, d_x), with its input h and the derivative d by its output."""

    derivatives: torch.Tensor  # (n, O)
    inputs: torch.Tensor  # (n, I)
    scale: torch.Tensor  # (n,) float64
    bias: bool

    def norms(self) -> torch.Tensor:
        inputs = _row_norms(self.inputs)
        return _row_norms(self.derivatives) * self.scale * (torch.sqrt(inputs.square() + 1) if self.bias else inputs)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        columns = [
            torch.linalg.vecdot(F.linear(self.inputs, *self._split(vector)), self.derivatives) for vector in vectors
        ]
        return torch.stack(columns, dim=1).double() * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        scaled = (coefficients * self.scale[:, None]).to(self.derivatives.dtype)
        for column, total in zip(scaled.T, sums, strict=True):
            weighted = self.derivatives * column[:, None]
            weight, bias = self._split(total)
            weight.addmm_(weighted.T, self.inputs)
            if bias is not None:
                bias += weighted.sum(0)

    def gram(self) -> torch.Tensor:
        inputs = (self.inputs @ self.inputs.T).double()
        if self.bias:
            inputs += 1
        return inputs * (self.derivatives @ self.derivatives.T) * torch.outer(self.scale, self.scale)

    def _split(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight (O, I) and the bias (O,) in a flat vector, as views."""
        outputs, inputs = self.derivatives.shape[1], self.inputs.shape[1]
        weight = vector[: outputs * inputs].view(outputs, inputs)
        return weight, vector[outputs * inputs :] if self.bias else None


@dataclass(frozen=True)
class DenseRows(_Stored):
    """Any other layer: the gradients themselves, which weight sharing makes smaller than their factors."""

    gradients: torch.Tensor  # (n, P)
    scale: torch.Tensor  # (n,) float64

    def norms(self) -> torch.Tensor:
        return _row_norms(self.gradients) * self.scale

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        return (self.gradients @ vectors.T).double() * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        sums.addmm_((coefficients * self.scale[:, None]).to(self.gradients.dtype).T, self.gradients)

    def gram(self) -> torch.Tensor:
        return (self.gradients @ self.gradients.T).double() * torch.outer(self.scale, self.scale)


@dataclass(frozen=True)
class ConvolutionRows(_Stored):
    """A convolution at so few positions that its input and the derivative by its output are less than a gradient."""

    module: nn.Conv2d
    inputs: torch.Tensor  # (n, input height, input width, I)
    derivatives: torch.Tensor  # (n, height, width, O)
    scale: torch.Tensor  # (n,) float64

    @cached_property
    def gradients(self) -> DenseRows:
        """Made while they are used, and never kept."""
        inputs, derivatives = self.inputs.permute(0, 3, 1, 2), self.derivatives.permute(0, 3, 1, 2)
        return DenseRows(_convolution_gradients(self.module, inputs, derivatives), self.scale)

    def norms(self) -> torch.Tensor:
        return self.gradients.norms()

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.gradients.project(vectors)

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        self.gradients.combine(coefficients, sums)

    def gram(self) -> torch.Tensor:
        return self.gradients.gram()


def has_rule(module: nn.Module) -> bool:
    """Whether `layer_rows` knows the type of `module` (a subclass may compute something else, so it does not count)."""
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear or isinstance(module, NORMALISATIONS)


def layer_rows(module: nn.Module, inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor) -> Rows:
    """Rows of one layer from its input and the derivative of the (scaled) losses by its output.

    Args:
        module: one that `has_rule`, all of whose parameters are trained.
        inputs: (n, ...) what the module was called with.
        derivatives: (n, ...) in the shape of its output.
        scale: (n,) float64.
    """
    if isinstance(module, nn.Linear):
        if inputs.ndim == 2:
            return FactoredRows(derivatives, inputs, scale, module.bias is not None)
        # one layer applied at many positions (tokens): the sum over positions has no factored form
        derivatives, inputs = derivatives.flatten(1, -2), inputs.flatten(1, -2)
        weight = derivatives.transpose(1, 2) @ inputs
        return _dense(weight, derivatives.sum(1) if module.bias is not None else None, scale)
    if isinstance(module, nn.Conv2d):
        rows = ConvolutionRows(module, inputs.permute(0, 2, 3, 1), derivatives.permute(0, 2, 3, 1), scale)
        is_smaller = inputs[0].numel() + derivatives[0].numel() < sum(p.numel() for p in module.parameters())
        return rows if is_smaller else rows.gradients
    weight, bias = _normalisation_gradients(module, inputs, derivatives)
    return _dense(weight, bias if module.bias is not None else None, scale)


def _dense(weight: torch.Tensor, bias: torch.Tensor | None, scale: torch.Tensor) -> DenseRows:
    flat = weight.flatten(1)
    return DenseRows(flat if bias is None else torch.cat([flat, bias.flatten(1)], dim=1), scale)


def _convolution_gradients(module: nn.Conv2d, inputs: torch.Tensor, derivatives: torch.Tensor) -> torch.Tensor:
    """(n, P): weight (O, I / groups, kernel height, kernel width), then bias.

    One batched matrix product a row of the kernel, of the derivatives with windows as wide as the kernel. A window is
    copied out once for all rows of the kernel, a few samples at a time, so that the copies stay in cache: twice as
    fast here as a product for each entry of the kernel, and 1.2 to 5.5 times as fast as a backward for each sample.
    """
    samples, groups = len(inputs), module.groups
    weights, bias = module.weight.numel(), module.bias is not None
    by_position = derivatives.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (groups, -1)).transpose(1, 2)
    (pad_h, pad_w), (kernel_h, kernel_w) = module.padding, module.kernel_size
    padded = F.pad(inputs, (pad_w, pad_w, pad_h, pad_h)).permute(0, 2, 3, 1).contiguous()
    gradients = inputs.new_empty(samples, weights + (module.out_channels if bias else 0))
    by_kernel = gradients[:, :weights].view(samples, groups, -1, padded.shape[3] // groups, kernel_h, kernel_w)
    for part in range(0, samples, _SAMPLES_IN_CACHE):
        some = slice(part, part + _SAMPLES_IN_CACHE)
        windows = _windows(module, padded[some], derivatives.shape[3])
        for row in range(kernel_h):
            product = _row_of_kernel(module, by_position[some], windows, row, derivatives.shape[2])
            by_kernel[some, ..., row, :] = product.unflatten(3, (kernel_w, -1)).transpose(3, 4)
    if bias:
        gradients[:, weights:] = derivatives.sum((2, 3))
    return gradients


def _windows(module: nn.Conv2d, padded: torch.Tensor, width: int) -> torch.Tensor:
    """(n, groups, padded height, output width, kernel width, I / groups): what a row of the kernel meets."""
    channels = padded.shape[3] // module.groups
    sample, line, pixel, _ = padded.stride()
    return padded.as_strided(
        (len(padded), module.groups, padded.shape[1], width, module.kernel_size[1], channels),
        (sample, channels, line, module.stride[1] * pixel, module.dilation[1] * pixel, 1),
        padded.storage_offset(),
    ).contiguous()


def _row_of_kernel(module, by_position, windows, row, height) -> torch.Tensor:
    """(n, groups, O / groups, kernel width * I / groups): the weight gradients of one row of the kernel."""
    top, step = row * module.dilation[0], module.stride[0]
    lines = windows[:, :, top : top + (height - 1) * step + 1 : step].flatten(2, 3).flatten(3)
    if lines.shape[3] < by_position.shape[3]:  # a product with few columns is slow: up to four times
        return (lines.mT @ by_position).mT
    return by_position.mT @ lines


def _normalisation_gradients(module: nn.Module, inputs: torch.Tensor, derivatives: torch.Tensor):
    """(n, *weight.shape) gradients of weight and bias: sums over the positions that share them."""
    if isinstance(module, nn.LayerNorm):
        normalised = F.layer_norm(inputs, module.normalized_shape, None, None, module.eps)
        shared = tuple(range(1, inputs.ndim - len(module.normalized_shape)))
    else:
        if isinstance(module, nn.GroupNorm):
            normalised = F.group_norm(inputs, module.num_groups, None, None, module.eps)
        else:
            normalised = F.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
        shared = tuple(range(2, inputs.ndim))
    products = derivatives * normalised
    return (products.sum(shared), derivatives.sum(shared)) if shared else (products, derivatives)


def _row_norms(rows: torch.Tensor) -> torch.Tensor:
    """(n,) float64: rows are near 1 by their scale, so that float32 squares neither vanish nor overflow."""
    return torch.linalg.vector_norm(rows, dim=1).double()
