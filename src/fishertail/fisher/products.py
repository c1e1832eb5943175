"""`ScopedVectors`: the vectors of several scopes side by side, so that each row of a layer is used for all of them.

Vectors of a scope are rows (b, P). Here they are cut by layer, and those of all scopes to which a layer belongs are
stacked: a batch of rows is used for every scope before it is discarded.
"""

from collections.abc import Mapping, Sequence

import torch

from fishertail.gradients.layer_rows.protocol import Rows


class ScopedVectors:
    """Which rows of the stacked vectors of a layer belong to which scope.

    Args:
        scopes: the layers of each scope.
        counts: b, the number of vectors of each scope.
        sizes: number of parameters of each layer.
    """

    def __init__(self, scopes: Sequence[tuple[str, ...]], counts: Sequence[int], sizes: Mapping[str, int]) -> None:
        self._scopes, self._sizes = scopes, sizes
        self._rows_of: dict[str, dict[int, slice]] = {}  # by layer and number of the scope
        for number, (layers, count) in enumerate(zip(scopes, counts, strict=True)):
            for layer in layers:
                of_layer = self._rows_of.setdefault(layer, {})
                start = max((part.stop for part in of_layer.values()), default=0)
                of_layer[number] = slice(start, start + count)

    @property
    def layers(self) -> frozenset[str]:
        """The layers of all scopes."""
        return frozenset(self._rows_of)

    def cut(self, vectors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """(B, P of the layer) for each layer: the parts of all scopes' vectors (b, P)."""
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in self._rows_of}
        for layers, of_scope in zip(self._scopes, vectors, strict=True):
            cut = of_scope.split([self._sizes[layer] for layer in layers], dim=1)
            for layer, part in zip(layers, cut, strict=True):
                parts[layer].append(part)
        return {layer: torch.cat(part) for layer, part in parts.items()}

    def zeros(self, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, P of the layer) for each layer."""
        counts = {layer: max(part.stop for part in of_layer.values()) for layer, of_layer in self._rows_of.items()}
        return {layer: like.new_zeros(count, self._sizes[layer]) for layer, count in counts.items()}

    def joined(self, by_layer: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """(b, P) of each scope: the inverse of `cut`."""
        return [
            torch.cat([by_layer[layer][self._rows_of[layer][number]] for layer in layers], dim=1)
            for number, layers in enumerate(self._scopes)
        ]

    def project(self, rows: Mapping[str, Rows], by_layer: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """G v (n, b) float64 of each scope, for the rows of n samples and vectors as from `cut`."""
        found: dict[int, torch.Tensor] = {}
        for layer, of_layer in self._rows_of.items():
            values = rows[layer].project(by_layer[layer])
            for number, part in of_layer.items():
                found[number] = found[number] + values[:, part] if number in found else values[:, part]
        return [found[number] for number in range(len(self._scopes))]

    def combine(
        self, rows: Mapping[str, Rows], coefficients: Sequence[torch.Tensor], sums: Mapping[str, torch.Tensor]
    ) -> None:
        """Add sum_x c_x g_x for coefficients (n, b) of each scope to `sums`, which is as from `zeros`."""
        for layer, of_layer in self._rows_of.items():
            rows[layer].combine(torch.cat([coefficients[number] for number in of_layer], dim=1), sums[layer])
