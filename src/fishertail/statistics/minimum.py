"""The epoch of lowest validation loss of a run, E*, and whether the run has passed it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PASSED = 1.2  # a run has passed E* if it was trained for so many times E* epochs


@dataclass(frozen=True)
class Minimum:
    """E*: the first end of an epoch, from 1 on, of lowest validation loss."""

    epoch: int
    step: int
    validation_loss: float
    last_epoch: int

    @property
    def passed(self) -> bool:
        """Whether the run went on long enough for E* to be more than the end of a falling loss.

        A lowest loss one epoch before the last says little: the loss may fall further. Before training there is none.
        """
        return self.epoch > 0 and self.last_epoch >= PASSED * self.epoch

    @property
    def status(self) -> str:
        """For readers of tables."""
        return "passed" if self.passed else "stopped early: extend epochs"


def lowest_validation_loss(metrics: pd.DataFrame) -> Minimum:
    """E* of one run.

    Args:
        metrics: columns step, epoch and validation_loss; checkpoints inside epochs are left out, and so is step 0,
            unless there is nothing else. A loss that is NaN is not the lowest.
    """
    ends = metrics[metrics["epoch"] == np.floor(metrics["epoch"])].sort_values("step", ignore_index=True)
    trained = ends[ends["epoch"] >= 1]
    shown = trained if len(trained) else ends
    row = shown.iloc[int(shown["validation_loss"].fillna(np.inf).to_numpy().argmin())]
    last = int(ends["epoch"].max())
    return Minimum(int(row["epoch"]), int(row["step"]), float(row["validation_loss"]), last)
