"""How the layers differ, in one table.

Is what the paper finds in one layer so in the others? Put together are, for every layer that has a_x and at every
checkpoint, what others have measured: lambda_1; the share of the samples near 0 (`ax_statistics`); the share of
outliers among the gradient norms (`outliers`); and by how many per cent lambda_1 falls without the samples of largest
abs(a_x), with V_1 kept (the decrease of `trimmed_eigenvalues`, from a_x itself, so at every checkpoint). Nothing new is
computed of gradients. lambda_1 of layers of different size and place are not on one scale: a layer with more
parameters, or larger inputs, has larger gradients.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Drawing, Figure, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

    from fishertail.measurements.measurement import RunTables

NETWORK = "network"  # which is no layer
SHOWN = {  # columns of the figure
    "lambda_1": "$\\lambda_1$",
    "near_zero_share": "share near 0",
    "outlier_share": "share of outliers",
    "decrease_percent": "decrease without\nthe largest (%)",
}


def measure(at: "RunTables", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """One row for each checkpoint and layer, in the order of the network."""
    keys = ["step", "layer"]
    spectrum = at.tables["spectrum"]
    largest = spectrum[(spectrum["rank"] == 1) & (spectrum["layer"] != NETWORK)]
    found = largest[["step", "epoch", "layer", "eigenvalue"]].rename(columns={"eigenvalue": "lambda_1"})
    found.insert(3, "depth", found.groupby("step").cumcount() + 1)
    found = found.merge(at.tables["ax_statistics"][[*keys, "near_zero_share"]], on=keys, how="left")
    outliers = at.tables["outliers"]
    counts = outliers[f"outliers_{options['outliers']['reading']}"]
    shares = outliers[keys].assign(outlier_share=counts / outliers["samples"])
    found = found.merge(shares, on=keys, how="left")
    found = found.merge(_decreases(at, options["trimmed_eigenvalues"]["fraction"]), on=keys, how="left")
    return {TABLE.name: found[TABLE.names]}


def _decreases(at: "RunTables", fraction: float) -> "pd.DataFrame":
    """By how many per cent lambda_1 falls without the largest a_x: step, layer, decrease_percent."""
    import pandas as pd

    from fishertail.measurements.measurement import tables
    from fishertail.statistics.trimming import decrease, trimmed_eigenvalue

    projections, rows = at.tables["projections"], []
    for step, part in projections.groupby("step"):
        for layer in tables()["projections"].layers(projections):
            a_x = part[layer].to_numpy(dtype=float)
            lost = decrease(float((a_x**2).mean()), trimmed_eigenvalue(a_x, fraction))
            rows.append({"step": step, "layer": layer, "decrease_percent": lost})
    return pd.DataFrame(rows, columns=["step", "layer", "decrease_percent"]).astype({"step": int})


def draw(results: Results) -> Drawing:
    """A row for each model and batch size of the data set, a column for each quantity: depth by time."""
    from matplotlib import pyplot as plt

    from fishertail.results import drawing

    table = results["layers"]
    table = table[table["dataset"] == results.dataset]
    if table.empty:
        return drawing.nothing("No layer has been measured."), table
    columns = [name for name in SHOWN if table[name].notna().any()]
    means = _means(table, [*drawing.NETWORK, "depth", "layer", "step", "epoch"], columns)
    networks = dict(iter(means.groupby(["model", "batch_size"], sort=False)))
    size = (2.3 * len(columns) + 0.8, 1.5 * len(networks) + 0.6)
    figure, grid = plt.subplots(len(networks), len(columns), figsize=size, squeeze=False)
    for position, column in enumerate(columns):
        shading = _shading(column, means[column])
        for axes, ((model, batch_size), part) in zip(grid[:, position], networks.items(), strict=True):
            image = _picture(axes, part, column, shading)
            axes.set_ylabel(f"{model}, batch size {batch_size}")
            axes.yaxis.set_visible(position == 0)
        figure.colorbar(image, ax=grid[:, position].tolist(), location="top", label=SHOWN[column], aspect=12)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    figure.align_ylabels(grid[:, 0])
    return figure, means


def _means(table: "pd.DataFrame", keys: list[str], columns: list[str]) -> "pd.DataFrame":
    """Over the seeds, at the checkpoints that most of them have: a landmark of one is not to be compared with means."""
    grouped = table.groupby(keys, sort=False)
    means = grouped[columns].mean().assign(seeds=grouped.size()).reset_index()
    return means[means["seeds"] == means.groupby(["model", "batch_size"])["seeds"].transform("max")]


def _shading(column: str, values: "pd.Series[float]") -> "Normalize":
    """Logarithmic for lambda_1, over six powers of ten at most; from 0 for shares."""
    from matplotlib.colors import LogNorm, Normalize

    if column != "lambda_1":
        return Normalize(0, max(float(values.max()), 1e-9))
    positive = values[values > 0]
    largest = float(positive.max()) if len(positive) else 1.0
    return LogNorm(max(float(positive.min()) if len(positive) else 0.1, 1e-6 * largest), largest)


def _picture(axes: "Axes", table: "pd.DataFrame", column: str, shading: "Normalize") -> "QuadMesh":
    """One quantity of one network: layers from the first at the top, time to the right."""
    import numpy as np

    from fishertail.results import drawing

    grid = table.pivot(index="depth", columns="epoch", values=column).sort_index()
    epochs = grid.columns.to_numpy(dtype=float)
    time = drawing.LogarithmicTime(epochs)
    content = np.ma.masked_invalid(grid.to_numpy(dtype=float))
    edges = drawing.edges_of(time.positions(epochs))
    image = axes.pcolormesh(edges, np.arange(len(grid) + 1), content, norm=shading, rasterized=True)
    axes.set_yticks(np.arange(len(grid)) + 0.5, table.groupby("depth")["layer"].first())
    axes.invert_yaxis()
    time.label(axes.xaxis, float(epochs[-1]))
    axes.grid(False)
    return image


TABLE = Table(
    name="layers",
    suffix="csv",
    meaning="lambda_1, a_x near 0, outliers and the decrease without the largest, by layer",
    columns=(
        STEP,
        EPOCH,
        LAYER,
        Column("depth", "place of the layer among those that have a_x, 1 for the first"),
        Column("lambda_1", "largest eigenvalue of F"),
        Column("near_zero_share", "share of the samples with abs(a_x) below near_zero"),
        Column("outlier_share", "share of the samples whose gradient norm is an outlier"),
        Column("decrease_percent", "100 (1 - B / A) with V_1 kept; empty where a_x is not kept"),
    ),
    keys=("step", "layer"),
)

FIGURE = Figure(
    name="layers_{dataset}",
    title="Layers during training, {dataset}",
    caption=(
        "What the paper finds in one layer, in all of them: each picture has the layers from the first at the top, and "
        "logarithmic time to the right; a row for each model and batch size, means over the seeds. From the left: "
        "lambda_1, the share of samples with a_x near 0, the share of outliers among the gradient norms, and the "
        "decrease of lambda_1 without the samples of largest |a_x|, where a_x is at hand. White is not measured."
    ),
    needs=("layers",),
    draw=draw,
    rule="layers_over_training",
)

MEASUREMENT = Measurement(
    name="layers",
    rule="layers",
    question="Is what the paper finds in one layer so in the others?",
    scope="run",
    measure=measure,
    options=Options,
    needs=("spectrum", "ax_statistics", "outliers"),
    options_of=("outliers", "trimmed_eigenvalues"),
    figures=(FIGURE,),
    tables=(TABLE,),
)
