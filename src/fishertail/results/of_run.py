"""Files of one run: each names its run in its provenance, and a file of another run is refused."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishertail.errors import StorageError
from fishertail.results import storage
from fishertail.results.run import Run
from fishertail.results.schema import Table

if TYPE_CHECKING:
    import pandas as pd


def identity(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of its run.

    Args:
        run: dataset, model, batch_size and seed, and more.
    """
    return {"run": {key: run[key] for key in ("dataset", "model", "batch_size", "seed")}}


def check(path: str | PathLike[str], record: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Raise `StorageError` unless the file at `path`, of this provenance, is of `run`."""
    found = record.get("run")
    if found is None:
        raise StorageError(
            f"{path}: a file that names its run expected, found one of version 0.1, which counted epochs: "
            "delete it to have it computed again, or convert kept runs by "
            "`python -m fishertail.results.conversion OLD NEW`"
        )
    if found != identity(run)["run"]:
        raise StorageError(f"{path}: a file of the run {Run.of(run).path} expected, found one of {Run.of(found).path}")


def difference(record: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """How the training that a file is of differs from that of another file of the run, as far as both name it.

    Files of version 0.1 do not all name their network. Which epochs and what was measured, by which version, makes no
    difference.

    Args:
        record: the file's provenance.
        other: that of the other file.

    Returns:
        in words, "architecture {...} instead of {...}"; None where it is the same.
    """
    found, expected = ((each.get("run") or {}) | (each["parameters"].get("run") or {}) for each in (record, other))
    for key in expected:
        if key in found and found[key] != expected[key]:
            return f"{key} {found[key]!r} instead of {expected[key]!r}"
    return None if record.get("data") == other.get("data") else "other data"


def read(path: str | PathLike[str], table: Table, run: Mapping[str, Any]) -> "pd.DataFrame":
    """Read a table of a run.

    Raises:
        StorageError: it is broken, of another run, or has other columns.
    """
    check(path, storage.read_provenance(path), run)
    frame = storage.read_table(path)
    table.check(frame, str(path))
    return frame


def run_of_path(path: str | PathLike[str], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run whose folder a file is in.

    Raises:
        StorageError: it is in none of them.
    """
    text = Path(path).as_posix()
    found = next((run for run in runs if f"/{Run.of(run).path}/" in text), None)
    if found is None:
        raise StorageError(f"{path}: a file in the folder of a run of the grid expected")
    return found
