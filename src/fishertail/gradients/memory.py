"""How much memory there is, and what is made of it: budgets in bytes, beyond model and data."""

import torch

from fishertail import devices
from fishertail.gradients.probe import Footprint

_BATCH = 256 << 20  # bytes on a CPU: more brings little, and less leaves matrix products small
_DEVICE = 2 << 30  # and on an accelerator, where few large batches keep it busy
_MOST = {"cpu": 500}  # samples of a batch: beyond, nothing is gained
_MOST_ON_DEVICE = 4096
_BATCH_SHARE = 1 / 4  # of a budget, for the batch that is computed
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def default_budget(device: torch.device | str) -> float:
    """Half of the memory that is free, in bytes. What a process has freed and holds on to does not count as free."""
    return devices.free_memory(device) / 2


def batch_size_for(footprint: Footprint, device: torch.device, budget: float | None) -> int:
    """How many samples are computed together.

    Raises:
        ValueError: not even one fits the budget.
    """
    of_sample = footprint.batch
    if budget is not None and of_sample > budget:
        raise ValueError(
            f"memory_budget: at least {readable(of_sample)} expected, which one sample takes; found {readable(budget)}"
        )
    on_cpu = device.type == "cpu"
    most = _MOST.get(device.type, _MOST_ON_DEVICE)
    share = _BATCH_SHARE * (default_budget(device) if budget is None else budget)
    return int(min(max(min(_BATCH if on_cpu else _DEVICE, share) // of_sample, 1), most))


def readable(size: float) -> str:
    """A number of bytes for people, and in bytes as settings have it."""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name} ({size:.3g} bytes)"
    return f"{size:.0f} bytes"
