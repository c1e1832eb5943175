"""Rows of a layer whose groups of parameters are used apart from one another, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch

from fishertail.gradients.accurate_sums import sum_of
from fishertail.gradients.layer_rows.dense import DenseRows, Stored
from fishertail.gradients.layer_rows.protocol import Rows


@dataclass(frozen=True)
class BlockRows(Stored):
    """Rows g_x = (g_x of block 1, g_x of block 2, ...)."""

    blocks: tuple[Rows, ...]
    sizes: tuple[int, ...]  # number of parameters of each block

    def norms(self) -> torch.Tensor:
        return reduce(torch.hypot, [block.norms() for block in self.blocks])  # squares below 1e-324 would underflow

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        parts = vectors.split(self.sizes, dim=1)
        return sum_of([block.project(part) for block, part in zip(self.blocks, parts, strict=True)])

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        for block, part in zip(self.blocks, sums.split(self.sizes, dim=1), strict=True):
            block.combine(coefficients, part)

    def take(self, positions: torch.Tensor | slice) -> "BlockRows":
        return self._by_block(lambda block: block.take(positions))

    def empty(self, samples: int) -> "BlockRows":
        return self._by_block(lambda block: block.empty(samples))

    def fill(self, positions: torch.Tensor | slice, rows: "BlockRows") -> None:
        for block, part in zip(self.blocks, rows.blocks, strict=True):
            block.fill(positions, part)

    def alone(self) -> "BlockRows":
        return self._by_block(lambda block: block.alone())

    def interleaved(self, others: Sequence["BlockRows"]) -> "BlockRows":
        of_each = zip(*(rows.blocks for rows in (self, *others)), strict=True)
        return replace(self, blocks=tuple(first.interleaved(rest) for first, *rest in of_each))

    def gram(self) -> torch.Tensor:
        return sum_of([block.gram() for block in self.blocks])

    def dense(self) -> DenseRows:
        parts = [block.dense() for block in self.blocks]
        return DenseRows(torch.cat([part.gradients for part in parts], dim=1), parts[0].scale)

    def _by_block(self, function: Callable[[Rows], Rows]) -> "BlockRows":
        return replace(self, blocks=tuple(map(function, self.blocks)))

    @property
    def pair_cost(self) -> int:
        return sum(block.pair_cost for block in self.blocks)

    @property
    def vector_cost(self) -> int:
        return sum(block.vector_cost for block in self.blocks)
