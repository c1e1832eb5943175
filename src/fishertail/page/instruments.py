"""The page's instruments: one quantity of a run over training each, taken from any table that has steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import pandas as pd

from fishertail.measurements.measurement import Measurement
from fishertail.results.exhibits import Panel
from fishertail.results.schema import RUN

BLUE, GREEN, ORANGE, PINK, VERMILION = "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#D55E00"
Scale = Literal["linear", "log"]
Kind = Literal["number", "share", "count"]

_KEYS = ("step", "epoch", *RUN)
_METRICS = {
    "validation_loss": ("validation loss", VERMILION),
    "validation_accuracy": ("validation accuracy", VERMILION),
    "train_loss": ("training loss", ORANGE),
    "train_accuracy": ("training accuracy", ORANGE),
}


@dataclass(frozen=True)
class Instrument:
    """One column of a table over training.

    Attributes:
        table, column: what is shown.
        title: the title of the axis.
        choice: column values that choose the rows, such as {"rank": 1}.
        scale: the scale of the axis.
        kind: what the values are: shares are shown in per cent, counts beside the number of samples.
        colour: of the line.
        question: which the measurement answers.
    """

    table: str
    column: str
    title: str
    choice: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale = "linear"
    kind: Kind = "number"
    colour: str = BLUE
    question: str = ""

    @classmethod
    def of(cls, panel: Panel, question: str = "") -> Self:
        """What a measurement's panel declares."""
        kind: Kind = "count" if panel.counts else "share" if panel.column.endswith("_share") else "number"
        return cls(panel.table, panel.column, panel.title, panel.rows, panel.scale, kind, panel.colour, question)

    @property
    def shown(self) -> dict[str, Any]:
        """What the page's script needs of it."""
        return {"title": self.title, "scale": self.scale, "kind": self.kind, "measurement": self.table}

    def rows(self, table: pd.DataFrame | None) -> pd.DataFrame:
        """Its rows, in the order of steps; none where the table is missing or has other columns."""
        if table is None or not {"step", self.column, *self.choice} <= set(table.columns):
            return pd.DataFrame()
        for column, value in self.choice.items():
            table = table[table[column] == value]
        keys = ["step", "layer"] if "layer" in table else ["step"]
        return table.drop_duplicates(keys).sort_values("step", kind="stable")


def all_instruments(
    measurements: Mapping[str, Measurement], tables: Mapping[str, pd.DataFrame]
) -> dict[str, Instrument]:
    """The panels of measurements, and the numbers in the table of metrics, by key.

    Args:
        measurements: those whose panels are shown, by name.
        tables: by name.
    """
    panels = {name: Instrument.of(each.panel, each.question) for name, each in measurements.items() if each.panel}
    first = {name: panels[name] for name in ("spectrum",) if name in panels}  # lambda_1, of which the rest is said
    return first | panels | {name: _of_metrics(name, tables["metrics"]) for name in _numbers(tables.get("metrics"))}


def _numbers(metrics: pd.DataFrame | None) -> list[str]:
    """The columns of metrics that are shown: those of the workflow first, then what else was recorded."""
    if metrics is None:
        return []
    others = [name for name in map(str, metrics.select_dtypes("number")) if name not in {*_KEYS, *_METRICS}]
    return [name for name in _METRICS if name in metrics] + others


def _of_metrics(name: str, metrics: pd.DataFrame) -> Instrument:
    title, colour = _METRICS.get(name, (name.replace("_", " "), PINK))
    values = metrics[name].dropna()
    share = name.endswith("accuracy") and bool(values.between(0, 1).all())
    return Instrument("metrics", name, title, kind="share" if share else "number", colour=colour)
