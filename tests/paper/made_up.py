"""Made-up results of the paper's networks, in which every claim holds unless a column is changed."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN

PER_EPOCH, MINIMUM, LAST = 10, 4, 8  # steps, and epochs
STEPS = (0, 1, 2, 4, 8, 10, 16, 20, 30, 40, 60, 80)  # the points of the criteria
PAPER = (("mnist", "fc"), ("cifar10", "conv"))
SAMPLES = 1000
SETTINGS = {
    "measurements.ax_statistics.near_zero": 0.1,
    "measurements.trimmed_eigenvalues.fraction": 0.1,
    "measurements.outliers.reading": "distance",
}
TABLES = ("metrics", "spectrum", "ax_statistics", "trimmed", "outliers", "eigenvalue_count", "subset_deviations")

Changes = Callable[[pd.DataFrame], Any]


def row(dataset: str, model: str, batch_size: int, seed: int, step: int) -> dict[str, Any]:
    """All columns of a checkpoint. The seeds differ by a little, each network in the same way."""
    epoch, large, small = step / PER_EPOCH, batch_size == 256, 1 + 0.01 * seed
    grown = 1 + 9 * np.exp(-((np.log(max(epoch, 0.1)) / 2) ** 2)) * (epoch > 0)
    return {
        **dict(zip(RUN, (dataset, model, batch_size, seed), strict=True)),
        "step": step,
        "epoch": epoch,
        "validation_loss": abs(epoch - MINIMUM) + 0.01 * seed,
        "validation_accuracy": 0.9,
        "train_loss": 9 - epoch + (2.5 if dataset == "mnist" else 0),
        "layer": "network",
        "rank": 1,
        "eigenvalue": grown * (2 if large else 1) * small,
        "largest": (300 if large else 100) * small,
        "median": 0.05 * 10 ** (-epoch / 4) * small,
        "near_zero_share": (0.7 if large else 0.9) + 0.001 * seed,
        "samples": SAMPLES,
        "decrease_percent": 40 + seed if step == 0 else 95 + 0.1 * seed,
        "decrease_resolved_percent": 30 + seed,
        "outliers_distance": 0 if epoch < MINIMUM else 200 + seed,
        "eigenpairs": 1,
        "lambda_1": 100,
        "sum_of_largest": 100,
        "trace": 100 + small,  # of which `small` is left for eigenvalues above lambda_1 / 100 = 1
        "parameters": 2000,
        "share": 0.1,
        "rms": 0.3 * small,
        "gaussian": 0.02,
        "bias": 0.1,
        "deviation": 0.25,
    }


def results(
    *,
    networks: Iterable[tuple[str, str]] = PAPER,
    batch_sizes: Iterable[int] = (16, 256),
    seeds: Iterable[int] = range(3),
    steps: Iterable[int] = STEPS,
    settings: dict[str, Any] | None = None,
    **changes: Changes,
) -> Results:
    """Runs of these networks; `changes` replace columns by functions of the table."""
    grid = [(d, m, b, s, step) for d, m in networks for b in batch_sizes for s in seeds for step in steps]
    table = pd.DataFrame([row(*each) for each in grid])
    for column, change in changes.items():
        table[column] = change(table)
    runs = [dict(zip(RUN, key, strict=True)) | {"figure_layer": "network"} for key in table.groupby(RUN).groups]
    losses = ["train_loss", "validation_loss", "validation_accuracy"]
    tables = dict.fromkeys(TABLES, table.drop(columns=losses)) | {"metrics": table[[*RUN, "step", "epoch", *losses]]}
    return Results(runs, tables, settings or SETTINGS)


def joined(*found: Results) -> Results:
    """The runs of several results."""
    tables = {name: pd.concat([each[name] for each in found], ignore_index=True) for name in TABLES}
    runs = {tuple(run.values()): run for each in found for run in each.runs}
    return Results(list(runs.values()), tables, found[0].settings)


def without(found: Results, **rows: Changes) -> Results:
    """Tables without the rows for which a function of the table is true."""
    return replace(found, tables={**found.tables, **{n: found[n][~drop(found[n])] for n, drop in rows.items()}})
