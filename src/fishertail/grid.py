"""A run of the grid, and its blocks of epochs, with their directories."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One training run of the grid."""

    dataset: str
    model: str
    batch_size: int
    seed: int

    @property
    def path(self) -> str:
        """Its directory below `results/runs`."""
        return f"{self.dataset}-{self.model}/bs{self.batch_size}/seed{self.seed}"


@dataclass(frozen=True)
class Block:
    """Consecutive epochs of a run that one job trains; the first block also holds epoch 0, the initial weights."""

    first: int
    last: int

    @property
    def path(self) -> str:
        """Its directory below that of the run."""
        return f"epochs{self.first:04d}-{self.last:04d}"

    @classmethod
    def of(cls, epochs: Sequence[int]) -> "Block":
        """That of consecutive epochs."""
        return cls(max(epochs[0], 1), epochs[-1])

    @property
    def epochs(self) -> range:
        return range(0 if self.first == 1 else self.first, self.last + 1)
