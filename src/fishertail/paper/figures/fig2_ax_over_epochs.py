"""Fig. 2 (CIFAR-10) and Fig. 3 (MNIST): lambda_1, and how a_x is distributed, as training goes on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

    from fishertail.results.drawing import LogarithmicTime

INNER = 0.01  # times `near_zero`: smaller abs(a_x) are all alike near 0, and share one bin


def draw(results: Results) -> Drawing:
    """At the smallest and the largest batch size: lambda_1 of each run above the histograms of a_x."""
    import numpy as np
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    from fishertail.results import drawing
    from fishertail.results.schema import joined

    near_zero = float(results.settings["measurements.ax_statistics.near_zero"])
    histograms, largest, lowest = _histograms(results, INNER * near_zero), _largest(results), _lowest(results)
    parts = {"lambda_1": largest, "share": histograms, "lowest_validation_loss": lowest}
    table = joined([part.assign(quantity=name) for name, part in parts.items()])
    models, sizes = list(dict.fromkeys(histograms["model"])), sorted(histograms["batch_size"].unique())
    if not models:
        return drawing.nothing("No a_x has been measured."), table
    rows, columns = len(sizes), len(models)
    size, heights = (3.5 * columns + 0.9, 3.9 * rows + 0.5), (1, 2.2) * rows
    figure, grid = plt.subplots(2 * rows, columns, figsize=size, squeeze=False, height_ratios=heights)
    shading = LogNorm(min(histograms["mean"][histograms["mean"] > 0].min(), 0.1), 1)
    for row, column in np.ndindex(rows, columns):
        batch_size, model = sizes[row], models[column]
        upper, lower = grid[2 * row : 2 * row + 2, column]
        part, curve, low = (_of(each, model, batch_size) for each in (histograms, largest, lowest))
        if part.empty:
            upper.axis("off")
            lower.axis("off")
            continue
        time = drawing.LogarithmicTime(part["epoch"].to_numpy(dtype=float))
        image = _columns(lower, part, time, near_zero, shading)
        _lambda_1(upper, curve, time)
        upper.set(title=f"{results.title_of(str(results.dataset))}, {model}, batch size {batch_size}")
        upper.set_xlim(lower.get_xlim())
        time.label(upper.xaxis, float(part["epoch"].max()))
        upper.tick_params(labelbottom=False)
        lower.set(xlabel="epoch")
        _minima((upper, lower), list(time.positions(low["epoch"])))
    for axes, label in zip(grid[:, 0], (r"$\lambda_1$", "$a_x$") * rows, strict=True):
        axes.set_ylabel(label)
    figure.align_ylabels()
    figure.colorbar(image, ax=grid.ravel().tolist(), label="share of the samples", pad=0.02, aspect=18 * rows)
    handles, labels = drawing.legend(grid.flat)
    figure.legend(handles, labels, loc="outside upper center", ncols=3 if columns > 1 else 2)
    return figure, table


def _of(table: "pd.DataFrame", model: str, batch_size: int) -> "pd.DataFrame":
    return table[(table["model"] == model) & (table["batch_size"] == batch_size)]


def _histograms(results: Results, inner: float) -> "pd.DataFrame":
    """Shares of the samples by bin, means over the runs, with one bin up to abs(a_x) = `inner`."""
    from fishertail.results import drawing

    counts = _common(_shown(results, results.of_layer("ax_histogram")))
    return drawing.shares(
        _near_zero_joined(counts, inner), [*drawing.NETWORK, "step", "epoch", "bin_left", "bin_right"]
    )


def _largest(results: Results) -> "pd.DataFrame":
    """lambda_1 of each run."""
    from fishertail.results.schema import RUN

    spectra = _shown(results, results.of_layer("spectrum"))
    named = spectra[spectra["rank"] == 1].rename(columns={"eigenvalue": "lambda_1"})
    shown: pd.DataFrame = named[[*RUN, "step", "epoch", "lambda_1"]]
    return shown


def _lowest(results: Results) -> "pd.DataFrame":
    """E* of each run that has passed it."""
    import pandas as pd

    from fishertail.results.schema import RUN

    rows = [(*key, low.step, low.epoch) for key, low in results.minima().items() if low.passed]
    return _shown(results, pd.DataFrame(rows, columns=[*RUN, "step", "epoch"]))


def _shown(results: Results, table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the data set that are of its smallest or largest batch size."""
    sizes = [run["batch_size"] for run in results.runs if run["dataset"] == results.dataset]
    of_dataset = table["dataset"] == results.dataset
    shown: pd.DataFrame = table[of_dataset & table["batch_size"].isin([min(sizes), max(sizes)] if sizes else [])]
    return shown


def _common(histograms: "pd.DataFrame") -> "pd.DataFrame":
    """The checkpoints that all runs of a network have, of those runs that have the most.

    A landmark of one run is not to be compared with means, and a run without checkpoints inside epochs must not take
    these from the others.
    """
    import pandas as pd

    parts = []
    for _, part in histograms.groupby(["model", "batch_size"], sort=False):
        inside = part[part["epoch"] % 1 != 0].groupby("seed")["step"].nunique()
        finest = inside.index[2 * inside >= inside.max()] if len(inside) else part["seed"].unique()
        part = part[part["seed"].isin(finest)]
        parts.append(part[part.groupby("step")["seed"].transform("nunique") == len(finest)])
    return pd.concat(parts, ignore_index=True) if parts else histograms


def _near_zero_joined(histograms: "pd.DataFrame", inner: float) -> "pd.DataFrame":
    """The histograms with one bin for all abs(a_x) up to the edge nearest to `inner`."""
    import numpy as np

    edges = np.sort(histograms["bin_right"].unique().astype(float))
    edges = edges[(edges > 0) & np.isfinite(edges)]
    if not len(edges):
        return histograms
    inner = float(edges[np.abs(np.log(edges / inner)).argmin()])
    inside = (histograms["bin_left"] > -inner * (1 + 1e-9)) & (histograms["bin_right"] < inner * (1 + 1e-9))
    joined = histograms.assign(
        bin_left=histograms["bin_left"].where(~inside, -inner), bin_right=histograms["bin_right"].where(~inside, inner)
    )
    return joined.groupby([name for name in joined if name != "count"], sort=False)["count"].sum().reset_index()


def _columns(
    axes: "Axes", table: "pd.DataFrame", time: "LogarithmicTime", near_zero: float, shading: "Normalize"
) -> "QuadMesh":
    """The histograms of one network over time, between lines at +-`near_zero`."""
    import numpy as np
    from matplotlib.ticker import NullLocator

    from fishertail.results import drawing

    grid = table.pivot_table(index=["bin_left", "bin_right"], columns="epoch", values="mean", sort=True)
    content = np.ma.masked_equal(np.nan_to_num(grid.to_numpy()), 0)
    epochs = grid.columns.to_numpy(dtype=float)
    rights = np.array([right for _, right in grid.index])
    inner = float(rights[rights > 0].min())
    edges = np.array([grid.index[0][0], *rights])
    edges[[0, -1]] = 2 * edges[1], 2 * edges[-2]  # the bins of overflow have no end
    columns = drawing.edges_of(time.positions(epochs))
    image = axes.pcolormesh(columns, edges, content, norm=shading, rasterized=True)
    axes.set_yscale("symlog", linthresh=inner, linscale=0.4)
    used = np.flatnonzero(content.filled(0).sum(1) > 0)
    farthest = max(np.abs(edges[[used[0], used[-1] + 1]]).max(), 20 * near_zero)
    axes.set_ylim(-1.2 * farthest, 1.2 * farthest)
    powers = [10.0**power for power in range(-12, 12) if 2 * inner < 10.0**power < 1.2 * farthest]
    axes.set_yticks([*(-power for power in powers), 0, *powers])
    axes.yaxis.set_minor_locator(NullLocator())
    for value in (near_zero, -near_zero):
        axes.axhline(value, color="white", linewidth=2.0)
        axes.axhline(value, color="black", linewidth=1.0, linestyle=(0, (4, 2)), label=rf"$a_x = \pm{near_zero:g}$")
    axes.set_xlim(columns[0], columns[-1])
    time.label(axes.xaxis, epochs[-1])
    axes.grid(False)
    return image


def _lambda_1(axes: "Axes", table: "pd.DataFrame", time: "LogarithmicTime") -> None:
    """A line for each run."""
    from fishertail.results import drawing

    drawing.run_lines(axes, table.assign(place=time.positions(table["epoch"])), "place", "lambda_1")
    if (table["lambda_1"] > 0).any():
        axes.set_yscale("log", nonpositive="mask")
        drawing.log_ticks(axes.yaxis)


def _minima(panels: "Sequence[Axes]", places: Sequence[float]) -> None:
    """A line at each run's lowest validation loss."""
    from fishertail.results import drawing

    for axes in panels:
        for place in places:
            if axes.collections:  # set off from the colours of the histograms
                axes.axvline(place, color="white", linewidth=2.2)
            axes.axvline(place, color=drawing.MARK, linewidth=1.1, label="lowest validation loss of a run")


FIGURE = Figure(
    name="fig{number}_ax_over_epochs_{dataset}",
    title="Fig. {number}: a_x during training, {dataset}",
    caption=(
        "Above, lambda_1 = mean(a_x^2) of each run at the smallest and the largest batch size. Below, how a_x, the "
        "projection of each training sample's gradient on the top eigenvector of the Fisher matrix, is distributed at "
        "the same time: shares of the samples by bin, means over the runs. Dashed lines enclose what the paper calls "
        "near 0; what is a hundred times nearer is one bin. Both axes are logarithmic, that of time with step 0 at "
        "the left, so that the growth inside the first epoch is seen where checkpoints were taken there. Vertical "
        "lines mark each run's lowest validation loss, once it is passed. Bears on claims 1 (many samples near 0, a "
        "few far out) and 2 (lambda_1 grows, then a_x goes to 0)."
    ),
    needs=("ax_histogram", "spectrum", "metrics"),
    draw=draw,
    settings=("measurements.ax_statistics.near_zero",),
    rule="fig2_3_ax_over_epochs",
    numbers=lambda dataset: 3 if dataset == "mnist" else 2,  # the paper's; other data sets take CIFAR-10's
)
