"""The runs of the grid: one row for each."""

from typing import TYPE_CHECKING

from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd


def make(results: Results) -> "dict[str, pd.DataFrame]":
    """What holds at each run's epoch of lowest validation loss."""
    import pandas as pd

    from fishertail.results.schema import RUN

    keys = list(results.minima())
    index = pd.MultiIndex.from_tuples(keys, names=RUN)
    minima = results.minima()
    metrics = results["metrics"].set_index([*RUN, "step"])
    accuracy = [metrics.loc[(*key, found.step), "validation_accuracy"] for key, found in minima.items()]
    spectrum = results["spectrum"]
    pairs = results.at_minimum(results.of_layer("spectrum"))
    first = pairs[pairs["rank"] == 1].set_index(RUN)["eigenvalue"]
    counts = results.at_minimum(results.of_layer("outliers", "network")).set_index(RUN)
    failed = (~spectrum["converged"].astype(bool)).groupby([spectrum[name] for name in RUN]).sum()
    reading = results.settings["measurements.outliers.reading"]
    table = index.to_frame(index=False).assign(
        epochs=[found.last_epoch for found in minima.values()],
        epoch_of_minimum=[found.epoch for found in minima.values()],
        validation_loss=[found.validation_loss for found in minima.values()],
        validation_accuracy=accuracy,
        minimum=[found.status for found in minima.values()],
        lambda_1=first.reindex(index).to_numpy(),
        outliers=counts[f"outliers_{reading}"].reindex(index).to_numpy(),
        not_converged=failed.reindex(index, fill_value=0).to_numpy(),
    )
    return {"runs": table}


TABLE = TableOfRuns(
    name="run_table",
    title="Runs: lowest validation loss",
    caption=(
        "One row for each run: its epoch of lowest validation loss and whether it was passed, lambda_1 of the "
        "figure layer and the number of outliers there, and how many eigenpairs of all checkpoints and layers did "
        "not reach their tolerance."
    ),
    needs=("metrics", "spectrum", "outliers"),
    make=make,
    settings=("measurements.outliers.reading",),
    tables=(
        Table(
            name="runs",
            suffix="csv",
            meaning="one row for each run",
            columns=(
                Column("epochs", "trained"),
                Column("epoch_of_minimum", "E*, that of lowest validation loss"),
                Column("validation_loss", "at E*"),
                Column("validation_accuracy", "at E*"),
                Column("minimum", '"passed" from 1.2 E* epochs on, else "stopped early: extend epochs"'),
                Column("lambda_1", "of the figure layer, at E*"),
                Column("outliers", "of the network, at E*"),
                Column("not_converged", "eigenpairs of all checkpoints and layers beyond their tolerance"),
            ),
            of_runs=True,
        ),
    ),
)
