"""The paper's figures, each drawn from one table, which is written beside it.

A function takes a long table with columns dataset, model, batch_size, seed and gives the figure and the table of what
it shows. Seeds become a mean with a band from the smallest to the largest; a batch size keeps its colour and style.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fishertail import storage

STYLE = Path(__file__).with_name("fishertail.mplstyle")
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "digits"}
_FIRST_COLOURS = {16: ("#0072B2", "-"), 256: ("#D55E00", (0, (5, 1.5)))}  # Okabe-Ito blue and vermilion
_OTHER_COLOURS = [("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", (0, (1, 1))), ("#56B4E9", (0, (8, 2, 2, 2)))]

Drawing = tuple[Figure, pd.DataFrame]


def write(draw: Callable[..., Drawing], svg: str, pdf: str, csv: str, provenance: Mapping, *args, **kwargs) -> None:
    """Draw by `draw(*args, **kwargs)` in the project's style, and write the figure twice and the table behind it."""
    with plt.style.context(STYLE):
        figure, table = draw(*args, **kwargs)
        record = json.dumps(provenance)
        with storage.atomic(svg) as path:
            figure.savefig(path, format="svg", metadata={"Date": None, "Description": record})
        with storage.atomic(pdf) as path:
            figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Subject": record})
        plt.close(figure)
    storage.write_table(table, csv, provenance)


def validation_accuracy(metrics: pd.DataFrame) -> Drawing:
    """Fig. 1: validation accuracy over epochs, a panel for each data set and model."""
    table = _bands(metrics, ["dataset", "model", "batch_size", "epoch"], "validation_accuracy")
    figure, panels = _panels(table, sharey="row")
    for (dataset, model), axes in panels.items():
        _curves(axes, _select(table, dataset, model), scale=100)
        axes.set(title=f"{_title(dataset)}, {model}", xlabel="epoch", ylabel="validation accuracy (%)")
    _tidy(figure, panels)
    return figure, table


def ax_over_epochs(histograms: pd.DataFrame, minima: pd.DataFrame, batch_size: int) -> Drawing:
    """Fig. 2 and 3: how a_x is distributed at each epoch, at one batch size, a panel for each model.

    Args:
        histograms: of one data set; columns epoch, bin_left, bin_right, count besides those of a run.
        minima: as of `tables.minima`; the epoch of those that are reached is marked.
        batch_size: the one that is shown.
    """
    shown = histograms[histograms["batch_size"] == batch_size]
    table = _shares(shown, ["dataset", "model", "batch_size", "epoch", "bin_left", "bin_right"])
    models = list(dict.fromkeys(table["model"]))
    figure, axes_row = plt.subplots(1, len(models), figsize=(3.6 * len(models) + 0.9, 3.3), squeeze=False)
    shading = LogNorm(table["mean"][table["mean"] > 0].min(), 1)
    image, marked = None, minima[(minima["batch_size"] == batch_size) & (minima["minimum"] == "reached")]
    for axes, model in zip(axes_row[0], models, strict=True):
        part = table[table["model"] == model]
        grid = part.pivot_table(index=["bin_left", "bin_right"], columns="epoch", values="mean", sort=True)
        shares = np.ma.masked_equal(grid.to_numpy(), 0)
        epochs = grid.columns.to_numpy()
        edges = np.arange(grid.shape[0] + 1)
        image = axes.pcolormesh(_midpoints(epochs), edges, shares, norm=shading, rasterized=True)
        _label_bins(axes.yaxis, grid.index)
        _zoom(axes.set_ylim, shares)
        if model in set(marked["model"]):
            epoch = marked[marked["model"] == model]["epoch"].mean()
            axes.axvline(epoch, color="white", linewidth=2.4)
            axes.axvline(epoch, color="#D55E00", linewidth=1.2, label="lowest validation loss")
        axes.set(
            title=f"{_title(part['dataset'].iloc[0])}, {model}, batch size {batch_size}", xlabel="epoch", ylabel="$a_x$"
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(False)
    figure.colorbar(image, ax=axes_row[0].tolist(), label="share of the samples", pad=0.02)
    if len(marked):
        figure.legend(*_legend(axes_row[0]), loc="outside upper right")
    return figure, table


def ax_at_minimum(histograms: pd.DataFrame, minima: pd.DataFrame) -> Drawing:
    """Fig. 4 and 5: how a_x is distributed at the epoch of lowest validation loss, for all batch sizes.

    Args:
        histograms: of one data set, at that epoch of each run.
        minima: as of `tables.minima`. A panel names the batch sizes of which not every run has passed its minimum (the
            others are shown at their last epoch), and so does the column seeds_past_minimum.
    """
    keys = ["dataset", "model", "batch_size"]
    table = _shares(histograms, [*keys, "bin_left", "bin_right"])
    past = minima.assign(seeds_past_minimum=minima["minimum"] == "reached").groupby(keys)["seeds_past_minimum"].sum()
    table = table.merge(past.reset_index(), on=keys)
    models = list(dict.fromkeys(table["model"]))
    figure, axes_row = plt.subplots(1, len(models), figsize=(3.9 * len(models), 3.1), squeeze=False, sharey=True)
    lowest = table["mean"][table["mean"] > 0].min()
    for axes, model in zip(axes_row[0], models, strict=True):
        part = table[table["model"] == model]
        for batch_size, bins in part.groupby("batch_size"):
            colour, line = _colour(batch_size)
            edges = np.arange(len(bins) + 1)
            axes.stairs(
                bins["mean"], edges, color=colour, linestyle=line, linewidth=1.4, label=f"batch size {batch_size}"
            )
            axes.stairs(bins["highest"], edges, baseline=bins["lowest"].to_numpy(), fill=True, color=colour, alpha=0.25)
        first = part[part["batch_size"] == part["batch_size"].iloc[0]]
        _label_bins(axes.xaxis, pd.MultiIndex.from_frame(first[["bin_left", "bin_right"]]))
        _zoom(axes.set_xlim, part.pivot(index="batch_size", columns="bin_left", values="highest").to_numpy().T)
        axes.set(
            yscale="log", ylim=(lowest / 2, 1), title=f"{_title(part['dataset'].iloc[0])}, {model}", xlabel="$a_x$"
        )
        axes.tick_params(axis="x", rotation=45)
        counts = part[part["seeds_past_minimum"] < part["seeds"]].groupby("batch_size").first()
        note = "\n".join(
            f"{row.Index}: lowest loss passed in {row.seeds_past_minimum} of {row.seeds}" for row in counts.itertuples()
        )
        if note:
            axes.annotate(note, (0.5, 0.97), xycoords="axes fraction", ha="center", va="top", fontsize=8.5)
    axes_row[0][0].set_ylabel("share of the samples")
    figure.legend(*_legend(axes_row[0]), loc="outside upper center", ncols=table["batch_size"].nunique())
    return figure, table


def outlier_curves(outliers: pd.DataFrame, metrics: pd.DataFrame, reading: str) -> Drawing:
    """Fig. 7: number of outliers over epochs, with the validation loss below it on the same axis.

    Args:
        outliers: counts by epoch of the whole network's norms.
        metrics: validation loss by epoch. The lowest mean over the seeds is marked, unless it is the last.
        reading: distance or norm (see `fishertail.outliers`).
    """
    keys = ["dataset", "model", "batch_size", "epoch"]
    counts = _bands(outliers, keys, f"outliers_{reading}").assign(quantity="outliers")
    losses = _bands(metrics, keys, "validation_loss").assign(quantity="validation_loss")
    table = pd.concat([counts, losses], ignore_index=True)
    pairs = list(dict.fromkeys(zip(table["dataset"], table["model"], strict=True)))
    figure, grid = plt.subplots(
        2, len(pairs), figsize=(3.0 * len(pairs) + 0.6, 4.2), squeeze=False, sharex="col", height_ratios=(1.3, 1)
    )
    for (dataset, model), (upper, lower) in zip(pairs, grid.T, strict=True):
        loss = _select(losses, dataset, model)
        _curves(upper, _select(counts, dataset, model))
        _curves(lower, loss)
        for batch_size, curve in loss.groupby("batch_size"):
            epoch = curve["epoch"].iloc[int(curve["mean"].to_numpy().argmin())]
            if epoch == curve["epoch"].max():  # it may go lower
                continue
            for axes in (upper, lower):
                axes.axvline(epoch, color=_colour(batch_size)[0], linestyle=":", linewidth=1.1)
        upper.set(title=f"{_title(dataset)}, {model}")
        upper.set_ylim(bottom=0)
        lower.set(xlabel="epoch")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        if loss["mean"].max() > 8 * loss["mean"].min():
            lower.set_yscale("log")
    grid[0, 0].set_ylabel("outliers")
    grid[1, 0].set_ylabel("validation loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    mark = plt.Line2D([], [], color="#555555", linestyle=":", linewidth=1.1)
    figure.legend(
        [*handles, mark], [*labels, "lowest validation loss"], loc="outside upper center", ncols=len(labels) + 1
    )
    return figure, table


def table_figure(table: pd.DataFrame) -> Drawing:
    """Table 1 and Fig. 6: a table as a figure, ruled as in print; numbers to four significant digits."""
    headings = [column.replace("_percent", " (%)").replace("_", " ") for column in table.columns]
    cells = [
        [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]
        for row in table.itertuples(index=False)
    ]
    lengths = [max(len(heading), *(len(row[i]) for row in cells)) for i, heading in enumerate(headings)]
    total, lines = sum(lengths) + 2 * len(lengths), len(cells) + 1
    figure, axes = plt.subplots(figsize=(0.075 * total + 0.2, 0.24 * lines + 0.15))
    axes.axis("off")
    axes.set(xlim=(0, total), ylim=(lines, 0))
    left = np.concatenate([[0], np.cumsum(np.array(lengths) + 2)[:-1]])
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    for row, texts in enumerate([headings, *cells]):
        weight = "bold" if row == 0 else "normal"
        for start, length, text, right in zip(left, lengths, texts, numeric, strict=True):
            x, side = (start + length + 1, "right") if right else (start + 1, "left")
            axes.text(x, row + 0.5, text, ha=side, va="center", fontweight=weight, fontsize=8.5)
    for height, width in ((0, 1.2), (1, 0.7), (lines, 1.2)):
        axes.axhline(height, color="black", linewidth=width, clip_on=False)
    return figure, table


def _cell(value, column: str) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if column.endswith("_percent") else f"{value:.4g}"


def _bands(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Mean, lowest and highest of `value` over the seeds, and how many there are."""
    grouped = frame.groupby(keys, sort=False)[value].agg(["mean", "min", "max", "count"]).reset_index()
    return grouped.rename(columns={"min": "lowest", "max": "highest", "count": "seeds"})


def _shares(histograms: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Bands over the seeds of the share of samples in each bin."""
    run = [key for key in ("dataset", "model", "batch_size", "seed", "epoch") if key in histograms]
    totals = histograms.groupby(run)["count"].transform("sum")
    return _bands(histograms.assign(share=histograms["count"] / totals), keys, "share")


def _panels(table: pd.DataFrame, sharey) -> tuple[Figure, dict]:
    pairs = list(dict.fromkeys(zip(table["dataset"], table["model"], strict=True)))
    columns = min(len(pairs), 2) if len(pairs) > 1 else 1
    rows = -(-len(pairs) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 2.5 * rows), squeeze=False, sharey=sharey)
    for axes in grid.flat[len(pairs) :]:
        axes.axis("off")
    return figure, dict(zip(pairs, grid.flat, strict=False))


def _curves(axes, table: pd.DataFrame, scale: float = 1) -> None:
    for batch_size, curve in table.groupby("batch_size"):
        colour, line = _colour(batch_size)
        label = f"batch size {batch_size}"
        axes.plot(curve["epoch"], scale * curve["mean"], color=colour, linestyle=line, label=label)
        axes.fill_between(
            curve["epoch"], scale * curve["lowest"], scale * curve["highest"], color=colour, alpha=0.2, lw=0
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _tidy(figure: Figure, panels: Mapping) -> None:
    for axes in panels.values():
        axes.label_outer()
        axes.xaxis.set_tick_params(labelbottom=True)
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _legend(axes_row) -> tuple[list, list[str]]:
    """Handles and labels of all panels, each label once."""
    labelled = {}
    for axes in axes_row:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    return list(labelled.values()), list(labelled)


def _select(table: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    return table[(table["dataset"] == dataset) & (table["model"] == model)]


def _colour(batch_size: int):
    if batch_size in _FIRST_COLOURS:
        return _FIRST_COLOURS[batch_size]
    return _OTHER_COLOURS[int(np.log2(batch_size)) % len(_OTHER_COLOURS)]


def _title(dataset: str) -> str:
    return TITLES.get(dataset, dataset)


def _midpoints(epochs: np.ndarray) -> np.ndarray:
    """Edges of columns centred on `epochs`, which may be unevenly spaced."""
    if len(epochs) == 1:
        return np.array([epochs[0] - 0.5, epochs[0] + 0.5])
    middle = (epochs[1:] + epochs[:-1]) / 2
    return np.concatenate([[epochs[0] - (middle[0] - epochs[0])], middle, [epochs[-1] + (epochs[-1] - middle[-1])]])


def _label_bins(axis, bins: pd.MultiIndex) -> None:
    """Label the edges of the symmetric logarithmic bins at whole powers of ten, and the bin around 0."""
    edges = [left for left, _ in bins][1:]
    powers = [
        (i + 1, edge) for i, edge in enumerate(edges) if edge and np.isclose(np.log10(abs(edge)) % 2, [0, 2]).any()
    ]
    centre = next(i for i, (left, right) in enumerate(bins) if left < 0 < right) + 0.5
    powers = [(i, edge) for i, edge in powers if abs(i - centre) > 6]
    axis.set_ticks([i for i, _ in powers] + [centre], [_power(edge) for _, edge in powers] + ["0"])


def _power(value: float) -> str:
    return f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$"


def _zoom(set_limits: Callable, shares: np.ndarray) -> None:
    """Limit an axis of bins (rows of `shares`) to those that are not empty."""
    used = np.flatnonzero(np.ma.filled(shares, 0).sum(1) > 0)
    if used.size:
        set_limits(used[0] - 1, used[-1] + 2)
