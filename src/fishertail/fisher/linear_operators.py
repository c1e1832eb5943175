"""`FisherOperator`: F and G as SciPy's linear operators, for any solver that takes these."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import nn

from fishertail.fisher.products import ScopedVectors
from fishertail.gradients.cache import RowCache
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.losses import normalised
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.memory_budget import resolved_budget
from fishertail.gradients.network import full_precision

if TYPE_CHECKING:
    from curvlinops._torch_base import PyTorchLinearOperator

Matrix = NDArray[np.float64]
_TOGETHER = 32  # columns that are multiplied in one sweep over the rows


class FisherOperator(LinearOperator):
    """F = 1/N sum_x g_x g_x^T (P x P), symmetric, as a `scipy.sparse.linalg.LinearOperator` of float64.

    A product takes one sweep over the gradients of all N samples: the first computes them, in a forward and a backward
    pass, and keeps as many as the memory budget takes; later ones compute only the others again. Up to 32 columns
    share a sweep. Gradients are summed in the model's precision within a batch and in float64 between batches, so that
    products of a float32 model err by some 1e-7 of their norm.

    Vectors are flat: layer after layer in the order of `layers`, each layer's parameters in the order of its
    `parameters()`. The eigenvectors of `fisher_eigenpairs` have the same order.

    Args:
        model, images, labels, loss, device, batch_size, output: see `gradient_norms`.
        layers: names of the layers that F is of; by default, or with "network" among them, all.
        memory_budget: bytes for gradients beyond model and data; by default half of the free memory.

    Attributes:
        gradients: G (N x P), row x the gradient of sample x, as a `LinearOperator` too; F = G^T G / N.
        layers: names, in the order of a vector's parts.
        slices: the part of a vector that each layer has.

    Raises:
        UnsupportedModelError, DeviceError, NodeError, ValueError, TypeError: see `gradient_norms`.
        RuntimeError: at a product, where the weights have changed since the operator was made.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        labels: Any = None,
        *,
        layers: Sequence[str] | None = None,
        loss: Callable[..., torch.Tensor] | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        memory_budget: float | None = None,
        output: str | int | None = None,
    ) -> None:
        matrix = GradientMatrix(
            model,
            images,
            labels,
            loss=loss,
            layers=layers,
            device=device,
            batch_size=batch_size,
            memory_budget=memory_budget,
            output=output,
        )
        self._sweeps = _Sweeps(matrix, [*model.parameters(), *model.buffers()])
        self.gradients = GradientOperator(self._sweeps)
        self.layers = matrix.layers
        ends = list(accumulate(matrix.sizes.values()))
        self.slices = {
            layer: slice(end - matrix.sizes[layer], end) for layer, end in zip(self.layers, ends, strict=True)
        }
        super().__init__(np.float64, (ends[-1], ends[-1]))  # type: ignore[call-arg]

    def to_curvlinops(self) -> "PyTorchLinearOperator":
        """F as curvlinops' estimators of spectra, traces and diagonals take it: float64, on the CPU.

        Raises:
            NodeError: curvlinops is not installed.
        """
        from fishertail.fisher.pytorch_operator import SymmetricOperator

        return SymmetricOperator(self)

    def _matmat(self, X: Matrix) -> Matrix:
        return _by_columns(self._sweeps.multiply, self._sweeps, X)

    def _matvec(self, x: Matrix) -> Matrix:
        return self._matmat(x.reshape(-1, 1))

    def _adjoint(self) -> "FisherOperator":
        return self


class GradientOperator(LinearOperator):
    """G (N x P), of which row x is the gradient of sample x; `FisherOperator.gradients`."""

    def __init__(self, sweeps: "_Sweeps") -> None:
        self._sweeps = sweeps
        super().__init__(np.float64, sweeps.shape)  # type: ignore[call-arg]

    def _matmat(self, X: Matrix) -> Matrix:
        return _by_columns(self._sweeps.project, self._sweeps, X)

    def _matvec(self, x: Matrix) -> Matrix:
        return self._matmat(x.reshape(-1, 1))

    def _rmatmat(self, X: Matrix) -> Matrix:
        return _by_columns(self._sweeps.combine, self._sweeps, X)

    def _rmatvec(self, x: Matrix) -> Matrix:
        return self._rmatmat(x.reshape(-1, 1))


class _Sweeps:
    """Sweeps over the gradients of all samples, which are kept as far as the budget allows.

    Args:
        matrix: not opened.
        tensors: parameters and buffers of the user's model, which must stay as they are.
    """

    def __init__(self, matrix: GradientMatrix, tensors: Sequence[torch.Tensor]) -> None:
        self._matrix, self._tensors = matrix, [tensor for tensor in tensors if tensor.is_floating_point()]
        self._weights = self._sums_of_weights()
        with matrix:  # settles how rows are computed; nothing stays open
            budget = resolved_budget(matrix.memory_budget, matrix.device) - matrix.batch_bytes
        self._cache = RowCache(matrix, matrix.layers, max(budget, 0.0))
        self.shape = len(matrix), sum(matrix.sizes.values())

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """G v (N, b) for vectors (P, b); float64, as all arguments and results."""
        scoped, (scaled, scales) = self._scoped(vectors), normalised(vectors.T, self._matrix.dtype)
        cut, found = scoped.cut([scaled]), vectors.new_empty(self.shape[0], vectors.shape[1])

        def take(samples: torch.Tensor, rows: dict[str, Rows]) -> None:
            found[samples] = scoped.project(rows, cut)[0]

        self._sweep(take)
        return found * scales

    def combine(self, coefficients: torch.Tensor) -> torch.Tensor:
        """G^T c (P, b) for coefficients (N, b)."""
        scoped, sums = self._scoped(coefficients), self._zeros(coefficients)
        self._sweep(lambda samples, rows: self._add(scoped, rows, coefficients[samples], sums))
        return sums.T

    def multiply(self, vectors: torch.Tensor) -> torch.Tensor:
        """G^T G v / N (P, b) for vectors (P, b)."""
        scoped, (scaled, scales) = self._scoped(vectors), normalised(vectors.T, self._matrix.dtype)
        cut, sums = scoped.cut([scaled]), self._zeros(vectors)
        self._sweep(lambda _, rows: self._add(scoped, rows, scoped.project(rows, cut)[0], sums))
        return sums.T * (scales / self.shape[0])

    def on_device(self, columns: Matrix) -> torch.Tensor:
        """Columns as the methods take them."""
        return torch.from_numpy(np.array(columns, dtype=np.float64)).to(self._matrix.device)

    def _sweep(self, take: Callable[[torch.Tensor, dict[str, Rows]], None]) -> None:
        """Call `take` with the numbers of the samples and the rows of every batch."""
        if not np.array_equal(self._sums_of_weights(), self._weights, equal_nan=True):
            raise RuntimeError("the model's weights have changed since the operator was made; make another one")
        with full_precision(self._matrix.device):
            for samples, rows in self._cache.batches(torch.arange(self.shape[0]), self._matrix.layers):
                take(samples.to(self._matrix.device), rows)

    def _add(
        self, scoped: ScopedVectors, rows: dict[str, Rows], coefficients: torch.Tensor, sums: torch.Tensor
    ) -> None:
        """Add sum_x c_x g_x to `sums` (b, P), which is float64 between batches."""
        scaled, scales = normalised(coefficients.T, torch.float64)
        part = scoped.zeros(torch.empty(0, dtype=self._matrix.dtype, device=sums.device))
        scoped.combine(rows, [scaled.T], part)
        sums += scoped.joined(part)[0] * scales[:, None]

    def _scoped(self, columns: torch.Tensor) -> ScopedVectors:
        return ScopedVectors([self._matrix.layers], [columns.shape[1]], self._matrix.sizes)

    def _zeros(self, columns: torch.Tensor) -> torch.Tensor:
        return columns.new_zeros(columns.shape[1], self.shape[1])

    def _sums_of_weights(self) -> Matrix:
        """(k, 2) sums and sums of squares of the weights: counts of in-place changes miss those by way of `data`."""
        wide = (tensor.detach().double() for tensor in self._tensors)
        return np.array([(float(tensor.sum()), float(tensor.square().sum())) for tensor in wide])


def _by_columns(product: Callable[[torch.Tensor], torch.Tensor], sweeps: _Sweeps, columns: Matrix) -> Matrix:
    """A product with columns (., b), some of them at a time."""
    groups = np.array_split(columns, range(_TOGETHER, columns.shape[1], _TOGETHER), axis=1)
    return np.concatenate([product(sweeps.on_device(group)).cpu().numpy() for group in groups], axis=1)
