"""Losses and accuracies of a network at a checkpoint."""

from dataclasses import asdict, dataclass

import pandas as pd

from fishertail.results.schema import EPOCH, STEP, Column, Table

METRICS = Table(
    name="metrics",
    suffix="csv",
    meaning="losses and accuracies at every checkpoint",
    columns=(
        STEP,
        EPOCH,
        Column("train_loss", "mean loss over the training samples"),
        Column("train_accuracy", "0 to 1"),
        Column("validation_loss", "mean loss over the validation samples"),
        Column("validation_accuracy", "0 to 1"),
    ),
    keys=("step",),
)


@dataclass(frozen=True)
class Metrics:
    """Mean loss and accuracy of a model on training and validation data."""

    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


def metrics_table(metrics: dict[int, Metrics], per_epoch: int) -> pd.DataFrame:
    """The rows of METRICS, by step.

    Args:
        metrics: by SGD step.
        per_epoch: SGD steps per epoch.
    """
    rows = [{"step": step, "epoch": step / per_epoch, **asdict(values)} for step, values in metrics.items()]
    return pd.DataFrame(rows, columns=METRICS.names)
