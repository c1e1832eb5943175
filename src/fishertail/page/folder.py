"""The tables of one run's folder, as the workflow, a live run or a user's own script left them there.

Whatever is there is read: a run may be going on, measurements may be missing, and a broken file is named and left out.
What other tables are enough for, such as a histogram of a_x, is computed where its own file is missing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fishertail.errors import StorageError
from fishertail.measurements.collect import run_tables
from fishertail.measurements.measurement import Checkpoint, Measurement, measurements, options_given
from fishertail.results import storage
from fishertail.results.run import LANDMARKS
from fishertail.results.schema import Table, joined

FAILURES = "failures.csv"  # step, epoch, measurement, reason
_OPTIONAL = ("label", "loss", "correct")  # of norms: a loss may have no labels, and no right answers


@dataclass
class RunFolder:
    """What a run's folder holds.

    Attributes:
        tables: by name, with the columns step and epoch.
        notes: what could not be read or computed, one line for each.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(*folders: Path) -> RunFolder:
    """All tables of a run: those of its blocks of epochs and landmarks, too, where it has such folders.

    Args:
        folders: one, or that of a kept run and that where it goes on; of rows in both the first ones count.
    """
    found = RunFolder()
    for name, table in run_tables().items():
        if table.suffix != "safetensors":
            _add(found, name, list(_files(folders, table.file)), list(table.keys))
    _add(found, "failures", list(_files(folders, FAILURES)), [])
    known = {table.file for table in run_tables().values()} | {FAILURES}
    others = sorted({path.name for folder in folders for path in folder.glob("*.csv")} - known)
    if others:
        found.notes.append(f"{', '.join(others)}: not a table that fishertail knows")
    _derive(found)
    return found


def _files(folders: Iterable[Path], name: str) -> Iterator[Path]:
    for folder in folders:
        for place in (folder, *sorted(folder.glob("epochs*")), folder / LANDMARKS):
            if (place / name).is_file():
                yield place / name


def _add(found: RunFolder, name: str, paths: list[Path], keys: list[str]) -> None:
    parts = []
    for path in paths:
        try:
            part = _read(path)
        except StorageError as error:
            found.notes.append(str(error))
            continue
        if "step" not in part:
            continue  # a table of the whole run, which no chart over training shows
        parts.append(part.assign(epoch=part["epoch"] if "epoch" in part else float("nan")))
    if parts:
        rows = joined(parts)
        rows = rows.drop_duplicates([key for key in keys if key in rows]) if keys else rows
        found.tables[name] = rows.sort_values("step", kind="stable", ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    """A table with its checksum verified, or one that another program wrote, which has none."""
    if path.suffix == ".csv" and not _ours(path):
        try:
            return storage.from_csv(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise StorageError(f"{path}: a table expected ({str(error).splitlines()[0]})") from error
    return storage.read_table(path)


def _ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith("# fishertail")


def _derive(found: RunFolder) -> None:
    """Compute what only takes other tables, with the default options, where its file is missing."""
    known = measurements()
    options = {name: each.options() for name, each in known.items()}
    for name, each in known.items():
        absent = any(table.name not in found.tables for table in each.tables)
        if each.scope != "tables" or not absent or not options[name].enabled:
            continue
        needed = _needed(each, known, found)
        if needed:
            _compute(found, each, options_given(each, options), needed)


def _needed(each: Measurement, known: dict[str, Measurement], found: RunFolder) -> dict[str, pd.DataFrame] | None:
    """The tables that a measurement takes; None where one is not there."""
    wanted = [table for need in each.needs for table in known[need].tables if table.suffix != "safetensors"]
    if any(table.name not in found.tables for table in wanted):
        return None
    return {table.name: _complete(found.tables[table.name], table) for table in wanted}


def _complete(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """With the columns that norms of a loss without labels lack."""
    lacking = [name for name in _OPTIONAL if name in table.names and name not in frame]
    return frame.assign(**dict.fromkeys(lacking, float("nan")))


def _compute(found: RunFolder, each: Measurement, options: dict[str, object], needed: dict[str, pd.DataFrame]) -> None:
    steps = sorted(set.intersection(*(set(table["step"]) for table in needed.values())))
    epochs = dict(needed[min(needed)][["step", "epoch"]].itertuples(index=False, name=None))
    parts: dict[str, list[pd.DataFrame]] = {table.name: [] for table in each.tables}
    for step in steps:
        at = {name: table[table["step"] == step].drop(columns=["step", "epoch"]) for name, table in needed.items()}
        try:
            made = each.measure(Checkpoint(step, at), options)
        except Exception as error:  # such as an a_x that is no number: the page shows the rest
            found.notes.append(f"{each.name} at step {step}: {error}")
            continue
        for name, rows in made.items():
            parts[name].append(rows.assign(step=step, epoch=epochs[step]))
    found.tables |= {name: joined(rows) for name, rows in parts.items() if rows and name not in found.tables}
