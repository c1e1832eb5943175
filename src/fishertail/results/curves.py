"""One run over training: a column of a table by SGD step, with a line for each layer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from fishertail.results.exhibits import Panel
from fishertail.results.schema import Table, shown_layer

STYLE = Path(__file__).with_name("fishertail.mplstyle")
_NETWORK, _BLACK = "network", "#000000"
_IN_LEGEND = 10  # layers; of more the first and the last are named
_SIZE = (5.2, 2.6)  # inches


def of_panel(panel: Panel, frame: pd.DataFrame, layers: Sequence[str] | None) -> Figure:
    """The column that a measurement's panel on the page shows.

    Args:
        frame: the table that the panel names.
        layers: those to be drawn; all by default.
    """
    for column, value in panel.rows.items():
        frame = frame[frame[column] == value]
    scale = {panel.column: panel.scale}
    return _drawn(frame, {panel.column: panel.title}, layers, scale=scale, whole=panel.counts)


def of_columns(frame: pd.DataFrame, columns: Sequence[str], layers: Sequence[str] | None) -> Figure:
    """Several columns, one below the other."""
    return _drawn(frame, {name: name.replace("_", " ") for name in columns}, layers)


def of_samples(table: Table, frame: pd.DataFrame, layers: Sequence[str] | None) -> Figure:
    """The median over the samples of what a table holds for each of them and each layer, as absolute values."""
    medians = frame[table.layers(frame)].abs().groupby(frame["step"]).median()
    rows = medians.melt(var_name="layer", value_name="median", ignore_index=False).reset_index()
    return _drawn(rows, {"median": f"median of {table.name}"}, layers, scale={"median": "log"})


def _drawn(
    frame: pd.DataFrame,
    columns: dict[str, str],
    layers: Sequence[str] | None,
    *,
    scale: dict[str, Any] | None = None,
    whole: bool = False,
) -> Figure:
    """A panel for each column. The figure is closed for pyplot, so that a notebook shows it once."""
    if "layer" not in frame:
        frame = frame.assign(layer=_NETWORK)
    names = list(dict.fromkeys(frame["layer"]))
    if unknown := [layer for layer in layers or () if layer not in names]:
        raise ValueError(f"layers: among {', '.join(names)} expected, found {', '.join(map(repr, unknown))}")
    names = [name for name in names if layers is None or name in layers]
    with matplotlib.style.context(STYLE):
        width, height = _SIZE
        figure, grid = plt.subplots(
            len(columns), 1, figsize=(width, 0.6 + (height - 0.6) * len(columns)), squeeze=False, sharex=True
        )
        for (column, title), axes in zip(columns.items(), grid[:, 0], strict=True):
            _lines(axes, frame, column, names)
            _scaled(axes, frame[column], (scale or {}).get(column, "linear"), whole)
            axes.set_ylabel(title)
        figure.align_ylabels()
        _time(grid[-1, 0], frame["step"])
        _legend(figure, grid[0, 0], names)
        plt.close(figure)
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, column: str, names: Sequence[str]) -> None:
    colour = _colours(names)
    for name in names:
        rows = frame[frame["layer"] == name].sort_values("step")
        label = shown_layer(name)
        axes.plot(rows["step"], rows[column], color=colour(name), label=label, marker="o", markersize=2.5)


def _colours(names: Sequence[str]) -> Callable[[str], Any]:
    """Of the style while it has enough, else by depth; the network is black."""
    own = [name for name in names if name != _NETWORK]
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"][:-1]
    shades = (
        cycle if len(own) <= len(cycle) else [matplotlib.colormaps["viridis"](x) for x in np.linspace(0, 0.9, len(own))]
    )
    by_name = dict(zip(own, shades, strict=False)) | {_NETWORK: _BLACK}
    return lambda name: by_name[name]


def _scaled(axes: Axes, values: "pd.Series[Any]", scale: str, whole: bool) -> None:
    positive = values[values > 0]
    if scale == "log" and len(positive):
        axes.set_yscale("log", nonpositive="mask")
        if positive.max() < 100 * positive.min():  # powers of ten alone would leave the axis with one number
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
    elif whole:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)


def _time(axes: Axes, steps: "pd.Series[Any]") -> None:
    """Logarithmic from step 1 on, with step 0 at the left: lambda_1 rises and falls within the first epoch."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(-0.15, max(float(steps.max()), 1) * 1.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("SGD step")


def _legend(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    if len(names) < 2:
        return
    handles, labels = axes.lines, [shown_layer(name) for name in names]  # axes would leave out a layer named _fc
    of_layers = [i for i, name in enumerate(labels) if name != _NETWORK]
    shown = set(range(len(labels)))
    if len(labels) > _IN_LEGEND:
        shown -= set(of_layers[1:-1])
    figure.legend([handles[i] for i in sorted(shown)], [labels[i] for i in sorted(shown)], loc="outside right upper")
