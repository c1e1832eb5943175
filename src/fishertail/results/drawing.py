"""What figures share: the style, the files, colours by batch size, seeds, and the axis of time.

Seeds become a mean with a band from the smallest to the largest, or a line each. A batch size keeps its colour and its
line.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from fishertail.results import storage
from fishertail.results.exhibits import Drawing, Results
from fishertail.statistics.minimum import Minimum

STYLE = Path(__file__).with_name("fishertail.mplstyle")
NETWORK = ["dataset", "model", "batch_size"]
ACCENT, MARK = "#D55E00", "#555555"
FEW = 6  # checkpoints of a line that are marked
_FIRST_COLOURS: dict[int, tuple[str, Any]] = {16: ("#0072B2", "-"), 256: (ACCENT, (0, (5, 1.5)))}  # Okabe-Ito
_OTHER_COLOURS: list[tuple[str, Any]] = [
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", (0, (1, 1))),
    ("#56B4E9", (0, (8, 2, 2, 2))),
]


def write(draw: Callable[..., Drawing], paths: Mapping[str, str], provenance: Mapping[str, Any], *args: Any) -> None:
    """Draw with `draw(*args)` in the project's style; write the figure as SVG and PDF, and its table as CSV.

    Args:
        paths: by suffix: svg, pdf and csv.
    """
    with plt.style.context(STYLE):
        figure, table = draw(*args)
        record = json.dumps(provenance)
        with storage.atomic(paths["svg"]) as path:
            figure.savefig(path, format="svg", metadata={"Date": None, "Description": record})
        with storage.atomic(paths["pdf"]) as path:
            figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Subject": record})
        plt.close(figure)
    storage.write_table(table, paths["csv"], provenance)


def bands(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Mean, lowest and highest of `value` over the seeds, and how many there are."""
    grouped = frame.groupby(keys, sort=False)[value].agg(["mean", "min", "max", "count"]).reset_index()
    return grouped.rename(columns={"min": "lowest", "max": "highest", "count": "seeds"})


def shares(histograms: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Bands over the seeds of the share of samples in each bin."""
    run = [key for key in (*NETWORK, "seed", "step") if key in histograms]
    totals = histograms.groupby(run)["count"].transform("sum")
    return bands(histograms.assign(share=histograms["count"] / totals), keys, "share")


def grid_of_panels(table: pd.DataFrame, sharey: Any) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A figure with a panel for each data set and model; of a table without rows one that says so, without panels."""
    pairs = list(dict.fromkeys(zip(table["dataset"], table["model"], strict=True)))
    if not pairs:
        return nothing("Nothing of what this figure shows has been measured."), {}
    columns = min(len(pairs), 2) if len(pairs) > 1 else 1
    rows = -(-len(pairs) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 2.5 * rows), squeeze=False, sharey=sharey)
    for axes in grid.flat[len(pairs) :]:
        axes.axis("off")
    return figure, dict(zip(pairs, grid.flat, strict=False))


def over_training(results: Results, table: pd.DataFrame, value: str, label: str, *, log: bool = False) -> Drawing:
    """A column over training: a panel for each data set and model, a line for each batch size, a band over the seeds.

    Dots are checkpoints that some seeds lack. Each octave of steps is as wide as the next.

    Args:
        results: of all runs.
        table: its rows, of one layer, with the columns of a run, step and epoch.
        value: the column.
        label: of the axis.
        log: whether the axis of the values is logarithmic.
    """
    shown = bands(table, [*NETWORK, "step", "epoch"], value)
    figure, panels = grid_of_panels(shown, sharey="row")
    for (dataset, model), axes in panels.items():
        part = of_network(shown, dataset, model)
        time = LogarithmicTime(part["epoch"].to_numpy(dtype=float))
        curves(axes, part.assign(epoch=time.positions(part["epoch"])))
        time.label(axes.xaxis, float(part["epoch"].max()))
        axes.set(title=f"{results.title_of(dataset)}, {model}", xlabel="epoch", ylabel=label)
        if log:
            axes.set_yscale("log")
    tidy(figure, panels)
    return figure, shown


def curves(axes: Axes, table: pd.DataFrame) -> None:
    """A line for each batch size over `epoch`, with its band.

    A landmark of one seed is not to be compared with means: what some seeds lack is a dot beside the line. A line
    through few checkpoints shows them, since it does not say how it went between them.
    """
    for batch_size, part in by_batch_size(table):
        colour, line = colour_of(batch_size)
        of_all = part["seeds"] == part["seeds"].max()
        curve, others = part[of_all].sort_values("epoch"), part[~of_all]
        if len(others):
            axes.plot(others["epoch"], others["mean"], "o", color=colour, markersize=2.5)
        label = f"batch size {batch_size}"
        marker = "s" if len(curve) < FEW else ""
        axes.plot(curve["epoch"], curve["mean"], color=colour, linestyle=line, marker=marker, ms=3, label=label)
        axes.fill_between(curve["epoch"], curve["lowest"], curve["highest"], color=colour, alpha=0.2, lw=0)


def run_lines(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """A line for each run of a network, in the colour and line of its batch size."""
    for batch_size, part in by_batch_size(table):
        colour, line = colour_of(batch_size)
        for number, (_, run) in enumerate(part.groupby("seed")):
            run = run.sort_values(x)
            label = None if number else f"batch size {batch_size}"
            axes.plot(run[x], run[y], color=colour, linestyle=line, linewidth=1.1, label=label)


def log_ticks(axis: Axis) -> None:
    """Few ticks of a logarithmic axis, written out where they are not small; also between powers of ten."""
    low, high = sorted(axis.get_view_interval())
    multiples = (1.0,) if high > 2000 * low else (1.0, 3.0) if high > 60 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=multiples, numticks=5 if len(multiples) == 1 else 12))
    if low >= 1e-3:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def note(axes: Axes, lines: Sequence[str], place: tuple[float, float] = (0.02, 0.03)) -> None:
    """A few lines in a corner of a panel, such as what is not shown in it, and why.

    Args:
        place: of the corner, as fractions of the panel.
    """
    axes.annotate(
        "\n".join(lines),
        place,
        xycoords="axes fraction",
        ha="left" if place[0] < 0.5 else "right",
        va="bottom" if place[1] < 0.5 else "top",
        fontsize=8,
        color=MARK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def nothing(text: str) -> Figure:
    """A figure that says why there is nothing to show."""
    figure, axes = plt.subplots(figsize=(5.0, 0.6))
    axes.axis("off")
    axes.text(0, 0.5, text, ha="left", va="center")
    return figure


def not_shown(minima: Mapping[tuple[Any, ...], Minimum], dataset: str, model: str) -> list[str]:
    """By batch size, how many runs of a network stopped before they had passed their lowest validation loss."""
    by_size: dict[int, list[bool]] = {}
    for key, lowest in minima.items():
        if key[:2] == (dataset, model):
            by_size.setdefault(int(key[2]), []).append(lowest.passed)
    return [
        f"batch size {size}: {passed.count(False)} of {len(passed)} stopped early, not shown"
        for size, passed in sorted(by_size.items())
        if not all(passed)
    ]


def tidy(figure: Figure, panels: Mapping[Any, Axes]) -> None:
    """Labels on the outer panels alone, and one legend for all."""
    if not panels:
        return
    for axes in panels.values():
        axes.label_outer()
        axes.xaxis.set_tick_params(labelbottom=True)
    handles, labels = legend(panels.values())
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def legend(axes_row: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all panels, each label once."""
    labelled: dict[str, Any] = {}
    for axes in axes_row:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    return list(labelled.values()), list(labelled)


def of_network(table: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    """The rows of a data set and model."""
    return table[(table["dataset"] == dataset) & (table["model"] == model)]


def by_batch_size(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """The rows of each batch size, smallest first."""
    for batch_size in sorted(table["batch_size"].unique()):
        yield int(batch_size), table[table["batch_size"] == batch_size]


def colour_of(batch_size: int) -> tuple[str, Any]:
    """Colour and line of a batch size."""
    if batch_size in _FIRST_COLOURS:
        return _FIRST_COLOURS[batch_size]
    turn, place = divmod(int(np.log2(batch_size)), len(_OTHER_COLOURS))
    line = (place + turn - 1) % len(_OTHER_COLOURS)  # another one where a colour comes again, as of 64 and 1024
    return _OTHER_COLOURS[place][0], _OTHER_COLOURS[line][1]


class LogarithmicTime:
    """An axis on which every octave of steps is as wide as the next, with step 0 at the left.

    Columns of equal width would hide how fast a quantity changes; a linear axis hides the first epoch.
    """

    def __init__(self, epochs: NDArray[np.float64]) -> None:
        positive = epochs[epochs > 0]
        self._first = float(positive.min()) if len(positive) else 1.0

    def positions(self, epochs: Any) -> NDArray[np.float64]:
        """Where epochs are: log2 of their ratio to the first after 0, which is at 0; epoch 0 is at -1.5."""
        epochs = np.asarray(epochs, dtype=np.float64)
        with np.errstate(divide="ignore"):
            return np.where(epochs > 0, np.log2(np.maximum(epochs, 1e-300) / self._first), -1.5)

    def label(self, axis: Axis, last: float) -> None:
        """Ticks at 0 and at powers of ten, at every other below the largest, and at the last epoch where there is room.

        Where powers of ten are few, there are ticks at twice and five times, too.
        """
        octaves = float(self.positions(last)) + 1.5
        multiples, stride = (1,) if octaves > 9.5 else (1, 2, 5), 1 if octaves < 19 else 2
        largest = math.floor(math.log10(last * (1 + 1e-9))) if last > 0 else 0
        values = [multiple * 10.0**power for power in range(largest, -9, -stride) for multiple in multiples]
        shown = sorted(value for value in values if value <= last * (1 + 1e-9))
        shown = [value for value in shown if float(self.positions(value)) >= max(-1e-9, octaves / 12 - 1.5)]
        if len(multiples) == 1 and shown and last == round(last) and math.log2(last / shown[-1]) >= octaves / 8:
            shown.append(last)
        wanted = [0.0, *(shown or dict.fromkeys([self._first, last]))]
        axis.set_major_locator(FixedLocator(list(self.positions(wanted))))
        texts = ["0", *(f"{value:g}" for value in wanted[1:])]
        axis.set_major_formatter(FuncFormatter(lambda x, position: texts[position] if position is not None else ""))
        axis.set_minor_locator(FixedLocator([]))


def edges_of(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of columns around `positions`, which may be unevenly spaced; the last ends where training does."""
    if len(positions) == 1:
        return np.array([positions[0] - 0.5, positions[0] + 0.5])
    middle = (positions[1:] + positions[:-1]) / 2
    return np.concatenate([[2 * positions[0] - middle[0]], middle, positions[-1:]])


def table_figure(
    table: pd.DataFrame, numbers: Sequence[str] = (), rules: Sequence[int] = (), notes: Sequence[str] = ()
) -> Drawing:
    """A table as a figure, ruled as in print; numbers to four significant digits.

    Args:
        table: what is shown.
        numbers: columns of text that are numbers, and aligned like these.
        rules: rows above which there is a line.
        notes: lines below the table.
    """
    headings = [column.replace("_percent", " (%)").replace("_", " ") for column in table.columns]
    cells = [
        [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]
        for row in table.itertuples(index=False)
    ]
    lengths = [max(len(heading), *(len(row[i]) for row in cells), 1) for i, heading in enumerate(headings)]
    total, lines = sum(lengths) + 2 * len(lengths), len(cells) + 1
    figure, axes = plt.subplots(figsize=(0.075 * total + 0.2, 0.24 * (lines + len(notes)) + 0.15))
    axes.axis("off")
    axes.set(xlim=(0, total), ylim=(lines + len(notes), 0))
    left = np.concatenate([[0], np.cumsum(np.array(lengths) + 2)[:-1]])
    numeric = [column in numbers or pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    for row, texts in enumerate([headings, *cells]):
        _write_row(axes, row, texts, left, lengths, numeric)
    for height, width in ((0, 1.2), *((row + 1, 0.4) for row in rules), (1, 0.7), (lines, 1.2)):
        axes.axhline(height, color="black", linewidth=width, clip_on=False)
    for position, text in enumerate(notes):
        axes.text(1, lines + position + 0.6, text, ha="left", va="center", fontsize=8)
    return figure, table


def _write_row(
    axes: Axes, row: int, texts: Sequence[str], left: Any, lengths: Sequence[int], numeric: Sequence[bool]
) -> None:
    weight = "bold" if row == 0 else "normal"
    for start, length, text, right in zip(left, lengths, texts, numeric, strict=True):
        x, side = (start + length + 1, "right") if right else (start + 1, "left")
        axes.text(x, row + 0.5, text, ha=side, va="center", fontweight=weight, fontsize=8.5)


def _cell(value: Any, column: str) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if column.endswith("_percent") else f"{value:.4g}"
