"""`GradientOperator`: products of G with the vectors of several scopes, each in one sweep over the rows of samples."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from fishertail.fisher.products import ScopedVectors
from fishertail.gradients.cache import RowCache


@dataclass(frozen=True)
class GradientOperator:
    """G of some samples, restricted to several scopes. Arguments and results are lists with one item for each scope."""

    cache: RowCache
    index: torch.Tensor  # (n,) ascending positions of the samples
    scopes: Sequence[tuple[str, ...]]  # the layers of each

    def project(self, vectors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """G v (n, b) float64 for vectors (b, P). The rows are not kept: this is the last use of them."""
        return self._sweep(vectors, None)[0]

    def multiply(
        self, vectors: Sequence[torch.Tensor], squared_weights: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """G v (n, b) float64 and F v (b, P), with F = sum_x w_x^2 g_x g_x^T.

        Args:
            vectors: (b, P).
            squared_weights: w_x^2 (n,) float64.
        """
        return self._sweep(vectors, squared_weights)

    def combine(self, coefficients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """G^T c (b, P) for coefficients c (n, b) float64."""
        scoped = self._scoped([part.shape[1] for part in coefficients])
        sums = scoped.zeros(self._empty())
        for samples, rows in self.cache.batches(self.index, scoped.layers):
            positions = self._positions(samples)
            scoped.combine(rows, [part[positions] for part in coefficients], sums)
        return scoped.joined(sums)

    def grams(self, memory: float) -> list[torch.Tensor]:
        """G G^T (n, n) float64, on the CPU.

        Args:
            memory: bytes for rows that are gathered. If they do not fit, layers are treated one after the other.
        """
        found: dict[int, torch.Tensor] = {}
        needed = {layer for layers in self.scopes for layer in layers}
        for some in self._layers_within(memory, needed):
            for layer, rows in self.cache.together(self.index, some).items():
                gram = rows.gram().cpu()
                for number, layers in enumerate(self.scopes):
                    if layer in layers:
                        found[number] = found[number] + gram if number in found else gram
        return [found[number] for number in range(len(self.scopes))]

    def _sweep(
        self, vectors: Sequence[torch.Tensor], squared_weights: Sequence[torch.Tensor] | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        scoped = self._scoped([len(part) for part in vectors])
        by_layer = scoped.cut(vectors)
        projections = [
            torch.empty(len(self.index), len(part), dtype=torch.float64, device=self.cache.device) for part in vectors
        ]
        sums = {} if squared_weights is None else scoped.zeros(self._empty())
        for samples, rows in self.cache.batches(self.index, scoped.layers, again=squared_weights is not None):
            positions = self._positions(samples)
            projected = scoped.project(rows, by_layer)
            for whole, part in zip(projections, projected, strict=True):
                whole[positions] = part
            if squared_weights is not None:
                pairs = zip(projected, squared_weights, strict=True)
                scoped.combine(rows, [part * squares[positions][:, None] for part, squares in pairs], sums)
        return projections, scoped.joined(sums) if sums else []

    def _scoped(self, counts: Sequence[int]) -> ScopedVectors:
        return ScopedVectors(self.scopes, counts, self.cache.matrix.sizes)

    def _empty(self) -> torch.Tensor:
        """A tensor of the type and on the device of vectors."""
        return torch.empty(0, dtype=self.cache.matrix.dtype, device=self.cache.device)

    def _positions(self, samples: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(self.index, samples).to(self.cache.device)

    def _layers_within(self, memory: float, layers: Collection[str]) -> list[list[str]]:
        """Groups of layers whose rows are gathered together."""
        groups: list[list[str]] = [[]]
        held = 0
        for layer in self.cache.layers:
            if layer in layers:
                size = len(self.index) * self.cache.matrix.row_bytes[layer]
                if groups[-1] and held + size > memory:
                    groups.append([])
                    held = 0
                groups[-1].append(layer)
                held += size
        return groups
