"""Fig. 2 (CIFAR-10) and Fig. 3 (MNIST): how a_x is distributed as training goes on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize


def draw(results: Results) -> Drawing:
    """At the smallest batch size of the data set: a panel for each model, a column for each checkpoint."""
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    from fishertail.results import drawing

    histograms = results.of_layer("ax_histogram")
    shown = histograms[histograms["dataset"] == results.dataset]
    batch_size = int(shown["batch_size"].min())
    keys = [*drawing.NETWORK, "step", "epoch", "bin_left", "bin_right"]
    table = drawing.shares(shown[shown["batch_size"] == batch_size], keys)
    models = list(dict.fromkeys(table["model"]))
    figure, axes_row = plt.subplots(1, len(models), figsize=(3.6 * len(models) + 0.9, 3.3), squeeze=False)
    shading = LogNorm(table["mean"][table["mean"] > 0].min(), 1)
    minima = [(key, lowest) for key, lowest in results.minima().items() if lowest.passed and key[2] == batch_size]
    images = []
    for axes, model in zip(axes_row[0], models, strict=True):
        lowest = [found.epoch for key, found in minima if key[:2] == (results.dataset, model)]
        images.append(_columns(axes, table[table["model"] == model], lowest, shading))
        axes.set(
            title=f"{results.title_of(str(results.dataset))}, {model}, batch size {batch_size}",
            xlabel="epoch",
            ylabel="$a_x$",
        )
    figure.colorbar(images[-1], ax=axes_row[0].tolist(), label="share of the samples", pad=0.02)
    handles, labels = drawing.legend(axes_row[0])
    if labels:
        figure.legend(handles, labels, loc="outside upper right")
    return figure, table


def _columns(axes: "Axes", table: "pd.DataFrame", minima: Sequence[int], shading: "Normalize") -> "QuadMesh":
    """The histograms of one network over epochs, and a line at the mean of the runs' minima."""
    import numpy as np

    from fishertail.results import drawing

    table = table[table["seeds"] == table["seeds"].max()]  # a landmark of one seed is not to be compared with means
    grid = table.pivot_table(index=["bin_left", "bin_right"], columns="epoch", values="mean", sort=True)
    content = np.ma.masked_equal(np.nan_to_num(grid.to_numpy()), 0)
    epochs = grid.columns.to_numpy(dtype=float)
    time = drawing.LogarithmicTime(epochs)
    columns = drawing.edges_of(time.positions(epochs))
    image = axes.pcolormesh(columns, np.arange(grid.shape[0] + 1), content, norm=shading, rasterized=True)
    drawing.label_bins(axes.yaxis, grid.index)
    drawing.zoom(axes.set_ylim, content)
    time.label(axes.xaxis, epochs[-1])
    if minima:
        place = float(time.positions(np.mean(minima)))
        axes.axvline(place, color="white", linewidth=2.4)
        axes.axvline(place, color=drawing.ACCENT, linewidth=1.2, label="lowest validation loss")
    axes.grid(False)
    return image


FIGURE = Figure(
    name="fig{number}_ax_over_epochs_{dataset}",
    title="Fig. {number}: a_x during training, {dataset}",
    caption=(
        "How a_x, the projection of each training sample's gradient on the top eigenvector of the Fisher matrix, "
        "is distributed during training, at the smallest batch size (mean over the seeds). Time is logarithmic, "
        "so that the growth inside the first epoch is seen; a_x is logarithmic on either side of 0. The line "
        "marks the epoch of lowest validation loss, once it is passed. Bears on claims 1 (most samples lie near "
        "0, a few far out) and 2 (lambda_1 = mean(a_x^2) grows, then shrinks)."
    ),
    needs=("ax_histogram", "metrics"),
    draw=draw,
    rule="fig2_3_ax_over_epochs",
    numbers=lambda dataset: 3 if dataset == "mnist" else 2,  # the paper's; other data sets take CIFAR-10's
)
