"""Losses and accuracies by epoch, and the epoch of lowest validation loss."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd

METRICS_COLUMNS = ["epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]


@dataclass(frozen=True)
class Metrics:
    """Mean cross entropy and accuracy of a model on training and validation data."""

    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class Minimum:
    """The epoch of lowest validation loss of a run."""

    epoch: int
    validation_loss: float
    reached: bool  # False where it is the last epoch, so that the loss may fall further

    @property
    def status(self) -> str:
        return "reached" if self.reached else "not reached: extend epochs"


def metrics_table(metrics: Mapping[int, Metrics]) -> pd.DataFrame:
    """METRICS_COLUMNS, a row an epoch."""
    rows = [{"epoch": epoch, **asdict(values)} for epoch, values in metrics.items()]
    return pd.DataFrame(rows, columns=METRICS_COLUMNS)


def lowest_validation_loss(metrics: pd.DataFrame) -> Minimum:
    """The (first) epoch of lowest validation loss in a table of METRICS_COLUMNS."""
    metrics = metrics.sort_values("epoch", ignore_index=True)
    lowest = int(metrics["validation_loss"].to_numpy().argmin())
    row = metrics.iloc[lowest]
    return Minimum(int(row["epoch"]), float(row["validation_loss"]), lowest < len(metrics) - 1)
