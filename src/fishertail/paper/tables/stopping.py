"""Stopping rules compared by their distance from the validation-loss minimum."""

from typing import TYPE_CHECKING

from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd


def make(results: Results) -> "dict[str, pd.DataFrame]":
    """By rule, and by rule and run."""
    from fishertail.paper import stopping

    data = (
        results["metrics"],
        results.of_layer("outliers", "network"),
        results.settings["measurements.outliers.reading"],
    )
    evaluation = stopping.evaluate(*data)
    return {"stopping": stopping.summary(evaluation, stopping.thresholds(*data)), "stopping_runs": evaluation}


_LEFT_OUT = Column("left_out", "what the threshold was not fitted on: the run, or all runs of its data set and model")
_RULE = Column("rule", "outliers, training loss or last epoch")

TABLE = TableOfRuns(
    name="stopping",
    title="When to stop",
    category="Claims",
    caption=(
        "The epoch of lowest validation loss, estimated from training data alone: by the share of outliers, by "
        "the training loss, or by stopping after the last epoch. Thresholds are fitted on all other runs, or on "
        "those of other data sets and models only. The error is |log2(estimate / true epoch)|; the cost is in "
        "percentage points of validation accuracy."
    ),
    needs=("metrics", "outliers"),
    make=make,
    settings=("measurements.outliers.reading",),
    tables=(
        Table(
            name="stopping",
            suffix="csv",
            meaning="stopping rules compared by their distance from the validation-loss minimum",
            columns=(
                _LEFT_OUT,
                _RULE,
                Column("threshold", "fitted on all runs: a share of outliers, or a training loss"),
                Column("runs", "number of runs tested"),
                Column("mean_error", "mean of \\|log2(estimate / true epoch)\\|"),
                Column("within_factor_2", "share of the runs"),
                Column("mean_accuracy_cost", "percentage points of validation accuracy"),
                Column("difference", "mean error less that of counting outliers"),
                Column("low", "end of its 95 % interval over networks"),
                Column("high", "end of its 95 % interval over networks"),
            ),
        ),
        Table(
            name="stopping_runs",
            suffix="csv",
            meaning="the same by run",
            columns=(
                _LEFT_OUT,
                _RULE,
                *(Column(name, "of the run") for name in ("dataset", "model", "batch_size", "seed")),
                Column("threshold", "fitted on the runs that were not left out"),
                Column("epoch", "the estimate"),
                Column("true_epoch", "E*"),
                Column("error", "\\|log2(estimate / true epoch)\\|"),
                Column("accuracy_cost", "percentage points of validation accuracy"),
            ),
        ),
    ),
)
