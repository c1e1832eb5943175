"""The tables of one run in a folder, each in a file as the workflow names it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fishertail.errors import StorageError
from fishertail.execution.chosen import FAILURES
from fishertail.measurements.collect import run_tables
from fishertail.results import storage
from fishertail.results.schema import Table


def known() -> dict[str, Table]:
    """The tables that a folder may have, by name."""
    return run_tables() | {FAILURES.name: FAILURES}


def present(folder: str | Path) -> dict[str, list[Path]]:
    """The files of each table that a folder has."""
    found = {name: list(_files(Path(folder), table)) for name, table in known().items()}
    return {name: paths for name, paths in found.items() if paths}


def read(folder: str | Path) -> dict[str, Any]:
    """All tables of a folder by name: data frames, or tensors by name.

    Raises:
        StorageError: there is none, or one is broken or lacks a column.
    """
    found: dict[str, Any] = {name: _read(known()[name], paths) for name, paths in present(folder).items()}
    if not found:
        expected = ", ".join(table.file for table in list(known().values())[:3])
        raise StorageError(f"{folder}: a folder with tables of a run ({expected}, ...) expected, found none")
    return found


def write(folder: str | Path, tables: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Write tables, each whole or not at all.

    Args:
        record: the provenance of each.

    Raises:
        StorageError: the folder cannot be written.
    """
    for name, content in tables.items():
        path = Path(folder) / known()[name].file
        if known()[name].suffix == "safetensors":
            storage.write_tensors(content, path, record)
        else:
            storage.write_table(content, path, record)


def _files(folder: Path, table: Table) -> Iterator[Path]:
    """The file of a table; `Watch` writes tensors into a folder for each step."""
    places = [folder, *sorted(folder.glob("step*"))] if table.suffix == "safetensors" else [folder]
    yield from (place / table.file for place in places if (place / table.file).is_file())


def _read(table: Table, paths: list[Path]) -> "pd.DataFrame | dict[str, Any]":
    """A table may have further columns: metrics have those that a training loop gives."""
    if table.suffix == "safetensors":
        return {name: tensor for path in paths for name, tensor in storage.read_tensors(path).items()}
    return storage.read_table(paths[0], table.names)
