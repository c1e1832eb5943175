"""`Rows`: what can be computed with the rows of one layer, however they are stored.

Row x is g_x = scale_x * (what is stored). The stored part is kept near 1 by powers of two, so that float32 loses no
small gradient; the scales are float64. Vectors of a layer's parameter space are flat, in the order of its parameters.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import torch

from fishertail.gradients.layer_rows.dense import DenseRows


class Rows(Protocol):
    """n rows of a layer's gradient matrix, over P parameters."""

    def norms(self) -> torch.Tensor:
        """(n,) float64: |g_x|, not by way of its square, which would underflow below 1e-162."""

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, k) float64: g_x . v for the k rows of `vectors` (k, P)."""

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        """Add sum_x c_x g_x to the k rows of `sums` (k, P), for the k columns of `coefficients` (n, k)."""

    def gram(self) -> torch.Tensor:
        """(n, n) float64: g_x . g_y."""

    def dense(self) -> DenseRows:
        """The same rows as gradients, n P numbers."""

    def interleaved(self, others: Sequence[Self]) -> Self:
        """The rows of the same samples by other losses beside these: those of the first sample, then of the second.

        What does not depend on the loss, a layer's input, is stored once for each sample.
        """

    def alone(self) -> Self:
        """The same rows, none of which shares anything with others."""

    @property
    def nbytes(self) -> int:
        """Bytes that the stored rows take."""

    @property
    def pair_cost(self) -> int:
        """Multiplications for one g_x . g_y."""

    @property
    def vector_cost(self) -> int:
        """Multiplications for one g_x . v."""

    def take(self, positions: torch.Tensor | slice) -> Self:
        """The rows at `positions`."""

    def empty(self, samples: int) -> Self:
        """Uninitialised memory for so many rows of the same layer."""

    def holds(self, rows: Any) -> bool:
        """Whether other rows are stored as these are: of the same type, with as many positions."""

    def fill(self, positions: torch.Tensor | slice, rows: Any) -> None:
        """Overwrite the rows at `positions` with `rows`; raise `ValueError` unless these can hold them."""

    def tensors(self) -> Iterator[torch.Tensor]:
        """The tensors in which they are stored."""
