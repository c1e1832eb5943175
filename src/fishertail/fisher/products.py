"""Products of the gradient matrix with vectors of several scopes, in one sweep over its rows.

A scope is a layer, or all layers for the network. Vectors of a scope are rows (b, P). They are cut by layer here, so
that the rows of a layer, once they are at hand, meet the vectors of all scopes.
"""

from collections.abc import Mapping

import torch

from fishertail.gradients.cache import RowStore
from fishertail.gradients.rows import Rows

Layers = Mapping[str, tuple[str, ...]]  # of each scope
Vectors = Mapping[str, torch.Tensor]  # of each scope


def project(store: RowStore, scopes: Layers, index: torch.Tensor, vectors: Vectors) -> dict[str, torch.Tensor]:
    """G v (n, b) float64 of the samples at `index` (ascending), for vectors (b, P) of each scope; the last sweep."""
    return _sweep(store, scopes, index, vectors)[0]


def multiply(
    store: RowStore, scopes: Layers, index: torch.Tensor, vectors: Vectors, squared_weights: Vectors
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """G v (n, b) float64, and sum_x w_x^2 g_x g_x^T v (b, P), with w_x^2 (n,) float64 of each scope."""
    return _sweep(store, scopes, index, vectors, squared_weights)


def combine(store: RowStore, scopes: Layers, index: torch.Tensor, coefficients: Vectors) -> dict[str, torch.Tensor]:
    """sum_x c_x g_x (b, P) of the samples at `index` (ascending), for coefficients (n, b) float64 of each scope."""
    stack = _Stack(scopes, {name: part.shape[1] for name, part in coefficients.items()})
    sums = stack.zeros(store)
    for samples, rows in store.batches(index, stack.columns.keys()):
        positions = torch.searchsorted(index, samples).to(store.device)
        stack.combine(rows, {name: part[positions] for name, part in coefficients.items()}, sums)
    return stack.assembled(sums)


def _sweep(store, scopes, index, vectors, squared_weights=None):
    stack = _Stack(scopes, {name: len(part) for name, part in vectors.items()})
    by_layer = stack.cut(vectors, store.matrix.sizes)
    projections = {
        name: torch.empty(len(index), len(part), dtype=torch.float64, device=store.device)
        for name, part in vectors.items()
    }
    sums = {} if squared_weights is None else stack.zeros(store)
    for samples, rows in store.batches(index, stack.columns.keys(), again=squared_weights is not None):
        positions = torch.searchsorted(index, samples).to(store.device)
        projected = stack.project(rows, by_layer)
        for name, values in projected.items():
            projections[name][positions] = values
        if squared_weights is not None:
            weighted = {n: values * squared_weights[n][positions][:, None] for n, values in projected.items()}
            stack.combine(rows, weighted, sums)
    return projections, stack.assembled(sums) if sums else {}


class _Stack:
    """Which rows of the stacked vectors of a layer belong to which scope."""

    def __init__(self, scopes: Layers, counts: Mapping[str, int]):
        self._layers = {name: scopes[name] for name in counts}
        self.columns: dict[str, dict[str, slice]] = {}
        for name, count in counts.items():
            for layer in scopes[name]:
                columns = self.columns.setdefault(layer, {})
                start = max((part.stop for part in columns.values()), default=0)
                columns[name] = slice(start, start + count)

    def cut(self, vectors: Vectors, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """(B, P of the layer) for each layer: the vectors of all scopes that it belongs to."""
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in self.columns}
        for name, layers in self._layers.items():
            for layer, part in zip(layers, vectors[name].split([sizes[layer] for layer in layers], dim=1), strict=True):
                parts[layer].append(part)
        return {layer: torch.cat(part) for layer, part in parts.items()}

    def zeros(self, store: RowStore) -> dict[str, torch.Tensor]:
        like = torch.empty(0, dtype=store.matrix.dtype, device=store.device)
        counts = {layer: max(part.stop for part in columns.values()) for layer, columns in self.columns.items()}
        return {layer: like.new_zeros(count, store.matrix.sizes[layer]) for layer, count in counts.items()}

    def project(self, rows: Mapping[str, Rows], by_layer: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result: dict[str, torch.Tensor] = {}
        for layer, columns in self.columns.items():
            values = rows[layer].project(by_layer[layer])
            for name, part in columns.items():
                result[name] = result[name] + values[:, part] if name in result else values[:, part]
        return result

    def combine(self, rows: Mapping[str, Rows], coefficients: Vectors, sums: Mapping[str, torch.Tensor]) -> None:
        """Add to `sums`, which is as of `zeros`."""
        for layer, columns in self.columns.items():
            rows[layer].combine(torch.cat([coefficients[name] for name in columns], dim=1), sums[layer])

    def assembled(self, sums: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """(b, P) of each scope."""
        return {
            name: torch.cat([sums[layer][self.columns[layer][name]] for layer in layers], dim=1)
            for name, layers in self._layers.items()
        }
