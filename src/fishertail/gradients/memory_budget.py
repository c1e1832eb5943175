"""The memory budget, in bytes beyond model and data: how large it is, and how large batches may be within it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fishertail import devices

_BATCH = 256 << 20  # bytes on a CPU: more brings little, and less makes matrix products small
_DEVICE = 2 << 30  # bytes on an accelerator, which a few large batches keep busy
_MOST = {"cpu": 500}  # samples of a batch, beyond which nothing is gained
_MOST_ON_DEVICE = 4096
_BATCH_SHARE = 1 / 4  # of the budget, for the batch that is computed
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class Footprint:
    """Bytes for each sample of a batch."""

    graph: int  # what the forward pass keeps for the backward pass
    rows: Mapping[str, int]  # of each layer, as they are stored

    @property
    def batch(self) -> int:
        """In total; derivatives take as much as the tensors that they are taken by."""
        return max(2 * self.graph + sum(self.rows.values()), 1)


def resolved_budget(budget: float | None, device: torch.device | str) -> float:
    """The budget in bytes: as given, or half of the free memory of the device for None.

    Memory that the process has freed and torch holds on to does not count as free.
    """
    return devices.free_memory(device) / 2 if budget is None else budget


def batch_size_for(footprint: Footprint, device: torch.device, budget: float | None, rows: int = 1) -> int:
    """How many rows are computed together.

    Args:
        footprint: of a row.
        budget: bytes, see `resolved_budget`.
        rows: how many of them a sample has.

    Raises:
        ValueError: not even one sample fits a given budget.
    """
    of_sample = footprint.batch
    if budget is not None and of_sample > budget:
        raise ValueError(
            f"memory_budget: at least {readable(of_sample)} expected, which one sample takes; found {readable(budget)}"
        )
    most = rows * _MOST.get(device.type, _MOST_ON_DEVICE)
    share = _BATCH_SHARE * resolved_budget(budget, device)
    return int(min(max(min(_BATCH if device.type == "cpu" else _DEVICE, share) // of_sample, 1), most))


def readable(size: float) -> str:
    """A number of bytes in a unit of suitable size, and in bytes, as settings have it."""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name} ({size:.3g} bytes)"
    return f"{size:.0f} bytes"
