"""The folder of one run of a user: the tables of a run of the workflow, each in a file at its top."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fishertail.errors import StorageError
from fishertail.measurements.collect import run_tables
from fishertail.results import storage
from fishertail.results.schema import EPOCH, STEP, Column, Table

FAILURES = Table(
    name="failures",
    suffix="csv",
    meaning="what could not be measured, and why",
    columns=(STEP, EPOCH, Column("measurement", "its name"), Column("reason", "the error in one line")),
    keys=("step", "measurement"),
)


def known() -> dict[str, Table]:
    """The tables that a folder may have, by name."""
    return run_tables() | {FAILURES.name: FAILURES}


def files(folder: str | Path) -> dict[str, Path]:
    """The tables that a folder has."""
    paths = {name: Path(folder) / table.file for name, table in known().items()}
    return {name: path for name, path in paths.items() if path.exists()}


def read(folder: str | Path) -> dict[str, Any]:
    """All tables of a folder: data frames, or tensors by name.

    Raises:
        StorageError: there is none, or one is broken or has other columns.
    """
    found: dict[str, Any] = {}
    for name, path in files(folder).items():
        table = known()[name]
        if table.suffix == "safetensors":
            found[name] = storage.read_tensors(path)
        else:
            found[name] = storage.read_table(path)
            table.check(found[name], str(path))
    if not found:
        expected = ", ".join(table.file for table in list(known().values())[:4])
        raise StorageError(f"{folder}: a folder with tables of a run ({expected}, ...) expected, found none")
    return found


def write(folder: str | Path, tables: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Write tables, each whole or not at all; those without rows have no file.

    Args:
        record: the provenance of each.

    Raises:
        StorageError: the folder cannot be written.
    """
    for name, content in tables.items():
        path = Path(folder) / known()[name].file
        if not len(content):
            path.unlink(missing_ok=True)  # as that of failures once all is measured
        elif known()[name].suffix == "safetensors":
            storage.write_tensors(content, path, record)
        else:
            storage.write_table(content, path, record)
