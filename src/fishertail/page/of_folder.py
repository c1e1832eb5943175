"""The page of any folder of tables of a run: a user's own, a finished one, or one that is still going."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from fishertail.errors import NodeError, StorageError
from fishertail.measurements.measurement import measurements
from fishertail.page import folder as folders
from fishertail.page.instruments import all_instruments
from fishertail.results import storage
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN

try:
    from fishertail.page import render
except ModuleNotFoundError as error:
    raise NodeError(
        f"page: {error.name} expected, which is not installed: pip install altair jinja2 pillow vl-convert-python"
    ) from error

_LEAD = (
    "The gradient of every training sample, followed through training: how large the largest eigenvalue of the "
    "empirical Fisher matrix is, and which samples carry it."
)


def write(folder: str | PathLike[str], path: str | PathLike[str]) -> None:
    """Write the page of a run's folder: one HTML file that fetches nothing.

    Args:
        folder: with the tables of a run (docs/measurements.md), such as metrics.csv, norms.parquet, spectrum.csv and
            projections.parquet, at its top or in blocks of epochs. Any of them may be missing; what is missing or
            cannot be read is named on the page. Without ax_histogram.parquet, a_x is counted from the projections.
        path: of the page.

    Raises:
        StorageError: there is no such folder, it holds no table with steps, or the page cannot be written.
        NodeError: on import of this module, where a package that draws the page is not installed.
    """
    source = Path(folder)
    if not source.is_dir():
        raise StorageError(f"{source}: a folder of tables expected, found none")
    found = folders.read(source)
    if not set(found.tables) - {"failures"}:
        reasons = "; ".join(found.notes) or "nothing that fishertail wrote"
        raise StorageError(f"{source}: tables of a run expected, such as spectrum.csv or metrics.csv, found {reasons}")
    text = render.Text(
        title=source.resolve().name,
        lead=_LEAD,
        footer="",
        missing=found.notes,
        missing_heading="Not shown:",
    )
    storage.write_text(_html(found, text), path)


def _html(found: folders.RunFolder, text: render.Text) -> str:
    run: dict[str, Any] = {"dataset": "", "model": "", "batch_size": 0, "seed": 0, "name": text.title}
    tables = {name: _of(run, table) for name, table in found.tables.items()}
    shown = Results([run | {"figure_layer": _figure_layer(found.tables)}], tables, {})
    return render.render(shown, all_instruments(measurements(), tables), text)


def _of(run: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """With the columns that name the run."""
    named = table.copy()
    named[RUN] = [run[key] for key in RUN]
    return named


def _figure_layer(tables: dict[str, pd.DataFrame]) -> str:
    """The layer that is shown first: the network, or the last one that has a spectrum."""
    layers = list(tables["spectrum"]["layer"]) if "spectrum" in tables else []
    return "network" if "network" in layers or not layers else layers[-1]
