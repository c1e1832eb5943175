"""A run of the grid, its blocks of epochs, and where their files are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

LANDMARKS = "landmarks"  # the folder of the checkpoints that are known only once a run has finished
RESUMED = "by an earlier start of this job"  # in the log of a job that did not do all of its work in the time it took


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

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The run in a rule's parameters, which say more of it."""
        return cls(*(parameters[key] for key in ("dataset", "model", "batch_size", "seed")))


@dataclass(frozen=True)
class Block:
    """Consecutive epochs of a run that one job trains; the first block also holds step 0, the initial weights."""

    first: int
    last: int

    @property
    def path(self) -> str:
        """Its directory below that of the run."""
        return f"epochs{self.first:04d}-{self.last:04d}"

    @classmethod
    def of(cls, epochs: Sequence[int]) -> Self:
        """The block of consecutive epochs; those of a run's first block begin with 0."""
        return cls(max(epochs[0], 1), epochs[-1])

    @classmethod
    def at(cls, path: str) -> Self:
        """The block that a directory's name, such as epochs0001-0010, stands for."""
        first, last = path.removeprefix("epochs").split("-")
        return cls(int(first), int(last))

    @property
    def epochs(self) -> range:
        """Its epochs; 0 stands for the initial weights."""
        return range(0 if self.first == 1 else self.first, self.last + 1)
