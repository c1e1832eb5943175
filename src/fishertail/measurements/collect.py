"""Tables over all runs of the grid, put together from those of each run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fishertail.measurements.measurement import tables as tables_of_measurements
from fishertail.results import of_run, storage
from fishertail.results.schema import RUN, Table, joined
from fishertail.training.metrics import METRICS


def run_tables() -> dict[str, Table]:
    """The tables that a run has, by name: its metrics, and those of all measurements."""
    return {METRICS.name: METRICS} | tables_of_measurements()


def of_one_run(table: Table, paths: Sequence[str], run: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a table of a run at all its checkpoints, in the order of steps where it has these.

    Args:
        paths: its files, which may repeat rows; of these the first counts.
        run: dataset, model, batch_size and seed.

    Raises:
        StorageError: a file is broken, of another run, or has other columns.
    """
    if not paths:
        return table.empty()
    rows = joined([of_run.read(path, table, run) for path in paths]).drop_duplicates(list(table.keys))
    return rows.sort_values("step", kind="stable", ignore_index=True) if "step" in rows else rows


def collect(table: Table, paths: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of a table of all runs, with the columns of `RUN` in front.

    Args:
        paths: its files, several of a run: those of its blocks of epochs and of its landmarks, which may repeat rows.
        runs: dataset, model, batch_size and seed of each run of the grid.

    Raises:
        StorageError: a file is broken, of another run than that of its folder, or has other columns.
    """
    parts = []
    for path in paths:
        run = of_run.run_of_path(path, [dict(each) for each in runs])
        frame = of_run.read(path, table, run)
        for position, column in enumerate(RUN):
            frame.insert(position, column, run[column])
        parts.append(frame)
    if not parts:
        return pd.DataFrame(columns=[*RUN, *table.names])
    order = {tuple(run[key] for key in RUN): position for position, run in enumerate(runs)}
    rows = joined(parts).drop_duplicates([*RUN, *table.keys])
    place = pd.Series([order[key] for key in rows[RUN].itertuples(index=False, name=None)], index=rows.index)
    by = ["place", "step"] if "step" in rows else ["place"]
    return rows.assign(place=place).sort_values(by, kind="stable", ignore_index=True).drop(columns="place")


def read(files: Mapping[str, Sequence[str]], runs: Sequence[Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """Tables by name: those of runs are collected, those over runs are read as they are.

    Args:
        files: paths by the name of the table.
        runs: of the grid.
    """
    known = run_tables()
    lists = {name: [paths] if isinstance(paths, str) else list(paths) for name, paths in files.items()}
    return {
        name: collect(known[name], paths, runs) if name in known else storage.read_table(paths[0])
        for name, paths in lists.items()
        if name in known or paths
    }
