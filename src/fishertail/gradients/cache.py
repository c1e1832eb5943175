"""`RowCache`: rows of the gradient matrix, kept in memory as far as a budget allows and recomputed otherwise."""

import ctypes
import mmap
import sys
from collections.abc import Collection, Iterator

import torch

from fishertail.gradients.layer_rows.alike import alike
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.matrix import Batch, GradientMatrix


class RowCache:
    """Rows of some layers of a `GradientMatrix`, by sample.

    Each layer has one block of memory. Many small blocks between short-lived ones took 50 % more memory, and memory
    that is new to a process is slow.

    Args:
        matrix: an open one.
        layers: whose rows are kept.
        budget: bytes.
        reserved: for how many samples `keep` leaves room when it is called with a whole pass.
    """

    def __init__(self, matrix: GradientMatrix, layers: Collection[str], budget: float, reserved: int = 0) -> None:
        self.matrix, self.device = matrix, matrix.device
        self.layers = tuple(layer for layer in matrix.layers if layer in layers)
        self._budget, self._reserved = budget, reserved
        self._kept: dict[str, Rows] = {}
        self._slot = torch.full((len(matrix),), -1)  # of each sample in the blocks; -1 where it is not kept
        self._used = self._slots = 0

    def keep(self, batch: Batch) -> None:
        """Keep a batch of a pass over all samples, as far as that leaves what is reserved."""
        self._keep(batch.index, batch.rows, self._reserved)

    def batches(
        self, index: torch.Tensor, layers: Collection[str], *, again: bool = True
    ) -> Iterator[tuple[torch.Tensor, dict[str, Rows]]]:
        """Sample numbers and rows of `layers` for the samples at `index` (ascending), in any order.

        Args:
            again: whether the rows will be needed once more, so that it pays to keep them.
        """
        layers = tuple(layer for layer in self.layers if layer in layers)
        held = self._slot[index] >= 0
        slots = self._slot[index[held]].sort()
        parts = index[held][slots.indices].split(self.matrix.batch_size)
        for samples, positions in zip(parts, slots.values.split(self.matrix.batch_size), strict=True):
            if len(samples):
                where = _as_slice(positions, self.device)
                yield samples, {layer: self._kept[layer].take(where) for layer in layers}
        for batch in self.matrix.batches(index[~held], layers):
            yield batch.index, batch.rows
            if again and layers == self.layers:
                self._keep(batch.index, batch.rows, reserved=0)

    def together(self, index: torch.Tensor, layers: Collection[str]) -> dict[str, Rows]:
        """Rows of `layers` for the samples at `index` (ascending), in one piece and in this order."""
        slots = self._slot[index]
        if len(index) and int(slots[0]) >= 0 and bool((slots == slots[0] + torch.arange(len(index))).all()):
            where = slice(int(slots[0]), int(slots[0]) + len(index))  # as they lie in the blocks, without a copy
            return {layer: rows.take(where) for layer, rows in self._kept.items() if layer in layers}
        result: dict[str, Rows] = {}
        filled = torch.zeros(len(index), dtype=torch.bool)
        for samples, rows in self.batches(index, layers):
            positions = torch.searchsorted(index, samples)
            for layer, part in rows.items():
                part = part.alone()
                room = result.setdefault(layer, part.empty(len(index)))
                if not room.holds(part):
                    before = filled.nonzero().flatten().to(self.device)
                    old, part = alike(room.take(before), part)
                    if not room.holds(part):
                        room = result[layer] = old.empty(len(index))
                        room.fill(before, old)
                room.fill(_as_slice(positions, self.device), part)
            filled[positions] = True
        return result

    def costs(self, layer: str) -> tuple[int, int]:
        """Multiplications for the product of a row with another row, and with a vector; 0 before any row is kept."""
        rows = self._kept.get(layer)
        return (0, 0) if rows is None else (rows.pair_cost, rows.vector_cost)

    def _keep(self, index: torch.Tensor, rows: dict[str, Rows], reserved: int) -> None:
        if not self._kept:
            size = sum(rows[layer].nbytes for layer in self.layers) / len(index)
            self._slots = min(int(self._budget / size), len(self.matrix))
            self._slots -= self._slots % self.matrix.rows_per_sample
            self._kept = {layer: rows[layer].empty(self._slots) for layer in self.layers}
            for block in self._kept.values():
                _ask_for_huge_pages(block)
        left = self._slots - self._used
        if left < len(self.matrix) - self._used:  # there is no room for all of them
            left -= min(reserved, self._slots // 2)
        count = min(len(index), left - left % self.matrix.rows_per_sample)
        if count <= 0:
            return
        new = {layer: rows[layer].take(slice(count)) for layer in self.layers}
        if not all(block.holds(new[layer]) for layer, block in self._kept.items()):
            new = {layer: alike(block.take(slice(1)), new[layer])[1] for layer, block in self._kept.items()}
            if not all(block.holds(new[layer]) for layer, block in self._kept.items()):
                return  # of more positions, or another type: computed again when they are needed
        for layer, block in self._kept.items():
            block.fill(slice(self._used, self._used + count), new[layer])
        self._slot[index[:count]] = torch.arange(self._used, self._used + count)
        self._used += count


def _as_slice(positions: torch.Tensor, device: torch.device) -> torch.Tensor | slice:
    """Ascending positions, as a slice where they are consecutive, so that indexing makes no copy."""
    first, last = int(positions[0]), int(positions[-1])
    return slice(first, last + 1) if last - first == len(positions) - 1 else positions.to(device)


def _ask_for_huge_pages(rows: Rows) -> None:
    """Ask for pages of 2 MB for a block of memory: the first access is 2.5 times as fast as with pages of 4 KB."""
    for tensor in rows.tensors():
        if tensor.device.type == "cpu" and sys.platform == "linux":
            start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            length = max(tensor.data_ptr() + tensor.nbytes - start, 0)
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
