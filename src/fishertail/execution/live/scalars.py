"""The numbers of a checkpoint that a logger shows, by name and layer: lambda_1/fc4, trimmed/B/network."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from fishertail.execution.measuring import Tables
from fishertail.measurements.measurement import Measurement
from fishertail.results.exhibits import Panel
from fishertail.results.schema import EPOCH, LAYER, STEP, Table

_OF_A_LAYER = (STEP.name, LAYER.name)


def scalars_of(measurements: Iterable[Measurement], tables: Tables, step: int) -> dict[str, float]:
    """Of each measurement the column that its panel on the page shows; where it has none, its tables by layer.

    Args:
        tables: of one checkpoint, or of a run until then; where some could not be measured, they are left out.
        step: of the checkpoint.
    """
    found: dict[str, float] = {}
    for each in measurements:
        panel = each.panel
        if panel is not None and STEP.name in tables.get(panel.table, ()):
            rows = _chosen(tables[panel.table], {STEP.name: step, **panel.rows})
            found |= _by_layer(rows, panel.column, _name(panel))
        for table in each.tables if panel is None else ():
            if table.keys == _OF_A_LAYER and table.name in tables:
                rows = _chosen(tables[table.name], {STEP.name: step})
                for column in _numbers(table, rows):
                    found |= _by_layer(rows, column, f"{table.name}/{column}")
    return found


def _name(panel: Panel) -> str:
    """Its title if that is one word, such as lambda_1; else table and column, since loggers split names at spaces."""
    return panel.title if panel.title.isidentifier() else f"{panel.table}/{panel.column}"


def _chosen(frame: pd.DataFrame, rows: Mapping[str, Any]) -> pd.DataFrame:
    for column, value in rows.items():
        frame = frame[frame[column] == value]
    return frame


def _by_layer(frame: pd.DataFrame, column: str, name: str) -> dict[str, float]:
    if LAYER.name not in frame:
        return dict(zip([name], frame[column].astype(float), strict=False))
    return {f"{name}/{layer}": float(value) for layer, value in zip(frame[LAYER.name], frame[column], strict=True)}


def _numbers(table: Table, frame: pd.DataFrame) -> list[str]:
    """The columns that hold numbers, besides those that say where."""
    others = {STEP.name, EPOCH.name, LAYER.name}
    return [name for name in table.names if name not in others and pd.api.types.is_numeric_dtype(frame[name])]
