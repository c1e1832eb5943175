"""Rows of a convolution: stored as its input and the derivative by its output, or as gradients if these are smaller.

Stored as factors, the rows are an operator: G v is the convolution with weight v, and G^T c its weight gradient.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from fishertail.gradients.accurate_sums import inner_products, lengths, long_product, sums_in_turn
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.outer_products import WORKSPACE, OuterProductRows, formed_is_cheaper
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rows.shared_inputs import SharedInputs

_SAMPLES_IN_CACHE = 32  # samples whose windows are copied at a time: 8 to 32 were fastest
_WINDOWS = 8 << 20  # bytes of unfolded inputs at a time


@dataclass(frozen=True)
class Geometry:
    """The shape of a 2-d convolution. Padding is by zeros; any other is applied to the input beforehand."""

    weight: torch.Size  # (O, I / groups, kernel height, kernel width)
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def convolve(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.conv2d(inputs, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def weight_gradient(self, inputs: torch.Tensor, derivatives: torch.Tensor) -> torch.Tensor:
        """(O, I / groups, kernel height, kernel width): the sum over the samples."""
        weight = inputs.new_empty(self.weight)
        options = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups, (False, True, False))
        gradient: torch.Tensor = torch.ops.aten.convolution_backward(derivatives, inputs, weight, None, *options)[1]
        return gradient

    def kernel_first(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (k, P) with the weight reordered to (O, kernel height, kernel width, I / groups); the bias stays."""
        entries = self.weight.numel()
        kernel = vectors[:, :entries].unflatten(1, self.weight).permute(0, 1, 3, 4, 2).flatten(1)
        return torch.cat([kernel, vectors[:, entries:]], dim=1)

    def channel_first(self, vectors: torch.Tensor) -> torch.Tensor:
        """The inverse of `kernel_first`."""
        (outputs, fan_in, height, width), entries = self.weight, self.weight.numel()
        weight = vectors[:, :entries].unflatten(1, (outputs, height, width, fan_in)).permute(0, 1, 4, 2, 3).flatten(1)
        return torch.cat([weight, vectors[:, entries:]], dim=1)

    def windows(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, I * kernel height * kernel width, T): the input below the kernel at each of the T positions."""
        return F.unfold(inputs, self.weight[2:], self.dilation, self.padding, self.stride)


@dataclass(frozen=True)
class KernelRows(DenseRows):
    """Gradients of a convolution in the order in which they are formed: (O, kernel height, kernel width, I / groups).

    Reordering every gradient as the weight is would take a fifth of the time of the norms; vectors are few.
    """

    geometry: Geometry

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        return super().project(self.geometry.kernel_first(vectors))

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        own = torch.zeros_like(sums)
        super().combine(coefficients, own)
        sums += self.geometry.channel_first(own)

    def dense(self) -> DenseRows:
        return DenseRows(self.geometry.channel_first(self.gradients), self.scale)


@dataclass(frozen=True)
class ConvolutionRows(SharedInputs):
    """The factors of a convolution at so few positions that they are smaller than its gradient."""

    geometry: Geometry
    inputs: torch.Tensor  # (n / shared, input height, input width, I)
    derivatives: torch.Tensor  # (n, height, width, O)
    scale: torch.Tensor  # (n,) float64
    bias: bool
    shared: int = 1

    INPUTS = "inputs"

    @property
    def _positions(self) -> int:
        return self.derivatives.shape[1] * self.derivatives.shape[2]

    @property
    def _entries(self) -> int:
        return self.geometry.weight.numel()

    def norms(self) -> torch.Tensor:
        outputs, fan_in = self.geometry.weight[0], self.geometry.weight[1:].numel()
        if self.geometry.groups > 1 or self._positions * (outputs + fan_in) > self._entries:
            return torch.cat([lengths(part.gradients) for _, part in self._formed()]) * self.scale
        return torch.cat([part.norms() for part in self._unfolded()])

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        if formed_is_cheaper(self._positions, self._entries, len(vectors), self.shared):
            return torch.cat([rows.project(vectors) for _, rows in self._formed()]) * self.scale[:, None]
        inputs, derivatives = _channels_first(self.inputs), _channels_first(self.derivatives)
        columns = []
        for vector in vectors:
            outputs = self.geometry.convolve(inputs, vector[: self._entries].view(self.geometry.weight))
            columns.append(inner_products(outputs, derivatives, self.shared))
        result = torch.stack(columns, dim=1)
        if self.bias:
            result += (self.derivatives.sum((1, 2)) @ vectors[:, self._entries :].T).double()
        return result * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        scaled = coefficients * self.scale[:, None]
        if formed_is_cheaper(self._positions, self._entries, len(sums), self.shared):
            for samples, rows in self._formed():
                rows.combine(scaled[samples], sums)
            return
        inputs, derivatives = _channels_first(self.inputs), _channels_first(self.derivatives)
        scaled = scaled.to(sums.dtype)
        for column, total in zip(scaled.T, sums, strict=True):
            weighted = sums_in_turn(derivatives * column[:, None, None, None], self.shared)
            total[: self._entries] += self.geometry.weight_gradient(inputs, weighted).flatten()
            if self.bias:
                total[self._entries :] += weighted.sum((0, 2, 3))

    def gram(self) -> torch.Tensor:
        """By pairs of positions, or by blocks of outputs, so that only a block of the gradients is formed at a time."""
        n, groups = len(self.scale), self.geometry.groups
        outputs, fan_in = self.geometry.weight[0], self.geometry.weight[1:].numel()
        if groups == 1 and self._positions**2 * (outputs + fan_in) < self._entries:
            return _concatenated(list(self._unfolded())).gram()
        gram = self.scale.new_zeros(n, n)
        step = max(1, WORKSPACE // (n * fan_in * self.inputs.element_size()))
        for group in range(groups):
            first, last = group * outputs // groups, (group + 1) * outputs // groups
            for start in range(first, last, step):
                block = self.inputs.new_empty(n, min(step, last - start) * fan_in)
                for samples, left, right in self._windows(group):
                    block[samples] = (left[:, start - first : start - first + step] @ right.mT).flatten(1)
                gram += long_product(block, block)
        if self.bias:
            sums = self.derivatives.sum((1, 2))
            gram += long_product(sums, sums)
        return gram * torch.outer(self.scale, self.scale)

    def dense(self) -> DenseRows:
        return self._kernel_rows().dense()

    def _kernel_rows(self) -> KernelRows:
        inputs, derivatives = _channels_first(self.alone().inputs), _channels_first(self.derivatives)
        gradients = _gradients(self.geometry, inputs, derivatives, self.bias)
        return KernelRows(gradients, self.scale, self.geometry)

    @property
    def pair_cost(self) -> int:
        return self._entries

    @property
    def vector_cost(self) -> int:
        return self._entries * self._positions // self.shared

    def _formed(self) -> Iterator[tuple[slice, KernelRows]]:
        """The gradients of a few samples at a time, without the scale."""
        step = self.shared * max(1, WORKSPACE // (8 * self.shared * self._entries * self.inputs.element_size()))
        for start in range(0, len(self.scale), step):
            samples = slice(start, start + step)
            part = self.take(samples)
            yield samples, replace(part._kernel_rows(), scale=torch.ones_like(part.scale))

    def _windows(self, group: int = 0) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Samples, derivatives (m, O / groups, T) and windows (m, fan-in, T) of one group, a few samples at a time."""
        groups = self.geometry.groups
        fan_in, outputs = self.geometry.weight[1:].numel(), self.geometry.weight[0] // groups
        channels = self.inputs.shape[3] // groups
        rows = self.alone()
        step = max(1, _WINDOWS // (fan_in * self._positions * self.inputs.element_size()))
        for start in range(0, len(self.scale), step):
            samples = slice(start, start + step)
            inputs = _channels_first(rows.inputs[samples, :, :, group * channels : (group + 1) * channels])
            left = self.derivatives[samples, :, :, group * outputs : (group + 1) * outputs].flatten(1, 2).mT
            yield samples, left, self.geometry.windows(inputs)

    def _unfolded(self) -> Iterator[OuterProductRows]:
        outputs = self.geometry.weight[0]
        for samples, left, right in self._windows():
            yield OuterProductRows((left.mT,), (right.mT,), self.scale[samples], outputs, self.bias)


def convolution_rows(
    geometry: Geometry, inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor, bias: bool
) -> Rows:
    """Rows of a convolution with inputs (n, I, H, W) and derivatives (n, O, H', W') of the loss by its output."""
    entries = geometry.weight.numel()
    if inputs[0].numel() + derivatives[0].numel() < entries:
        inputs, derivatives = (tensor.permute(0, 2, 3, 1).contiguous() for tensor in (inputs, derivatives))
        return ConvolutionRows(geometry, inputs, derivatives, scale, bias)
    return KernelRows(_gradients(geometry, inputs, derivatives, bias), scale, geometry)


def _concatenated(parts: list[OuterProductRows]) -> OuterProductRows:
    if len(parts) == 1:
        return parts[0]
    left, right = torch.cat([part.lefts[0] for part in parts]), torch.cat([part.rights[0] for part in parts])
    return replace(parts[0], lefts=(left,), rights=(right,), scale=torch.cat([part.scale for part in parts]))


def _channels_first(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(0, 3, 1, 2)


def _gradients(geometry: Geometry, inputs: torch.Tensor, derivatives: torch.Tensor, bias: bool) -> torch.Tensor:
    """(n, P): the weight as (O, kernel height, kernel width, I / groups), then the bias.

    Each row of the kernel takes one batched matrix product of the derivatives with windows as wide as the kernel. The
    windows are copied once for all rows of the kernel, a few samples at a time, so that the copies stay in the cache.
    This was twice as fast as one product for each entry of the kernel, and 1.2 to 5.5 times as fast as one backward
    pass for each sample.
    """
    samples, groups, (outputs, fan_in, kernel_h, kernel_w) = len(inputs), geometry.groups, geometry.weight
    by_position = derivatives.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (groups, -1)).transpose(1, 2)
    pad_h, pad_w = geometry.padding
    padded = F.pad(inputs, (pad_w, pad_w, pad_h, pad_h)).permute(0, 2, 3, 1).contiguous()
    entries = geometry.weight.numel()
    gradients = inputs.new_empty(samples, entries + (outputs if bias else 0))
    by_kernel = gradients[:, :entries].view(samples, groups, -1, kernel_h, kernel_w * fan_in)
    for part in range(0, samples, _SAMPLES_IN_CACHE):
        some = slice(part, part + _SAMPLES_IN_CACHE)
        windows = _row_windows(geometry, padded[some], derivatives.shape[3])
        for row in range(kernel_h):
            by_kernel[some, ..., row, :] = _row_of_kernel(
                geometry, by_position[some], windows, row, derivatives.shape[2]
            )
    if bias:
        gradients[:, entries:] = derivatives.sum((2, 3))
    return gradients


def _row_windows(geometry: Geometry, padded: torch.Tensor, width: int) -> torch.Tensor:
    """(n, groups, padded height, output width, kernel width, I / groups): the input below each row of the kernel."""
    channels = padded.shape[3] // geometry.groups
    sample, line, pixel, _ = padded.stride()
    return padded.as_strided(
        (len(padded), geometry.groups, padded.shape[1], width, geometry.weight[3], channels),
        (sample, channels, line, geometry.stride[1] * pixel, geometry.dilation[1] * pixel, 1),
        padded.storage_offset(),
    ).contiguous()


def _row_of_kernel(
    geometry: Geometry, by_position: torch.Tensor, windows: torch.Tensor, row: int, height: int
) -> torch.Tensor:
    """(n, groups, O / groups, kernel width * I / groups): the weight gradients of one row of the kernel."""
    top, step = row * geometry.dilation[0], geometry.stride[0]
    lines = windows[:, :, top : top + (height - 1) * step + 1 : step].flatten(2, 3).flatten(3)
    if lines.shape[3] < by_position.shape[3]:  # a product with few columns is up to four times slower
        return (lines.mT @ by_position).mT
    return by_position.mT @ lines
