"""Fig. 4 (CIFAR-10) and Fig. 5 (MNIST): how a_x is distributed at the lowest validation loss, by batch size."""

from typing import TYPE_CHECKING, Any

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd


def draw(results: Results) -> Drawing:
    """A panel for each model, a tail for each run that has passed its minimum; a note names those that have not."""
    import pandas as pd
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    from fishertail.results import drawing
    from fishertail.results.schema import RUN

    near_zero = float(results.settings["measurements.ax_statistics.near_zero"])
    minima = {key: found for key, found in results.minima().items() if key[0] == results.dataset}
    histograms, statistics = (_passed(results, results.of_layer(name)) for name in ("ax_histogram", "ax_statistics"))
    tails = _tails(histograms, statistics, near_zero)
    status = pd.DataFrame([(*key, found.status) for key, found in minima.items()], columns=[*RUN, "minimum"])
    table = status.merge(tails, on=RUN, how="left")  # a run that is not shown has one row, which says so
    models = list(dict.fromkeys(key[1] for key in minima))
    if not models:
        return drawing.nothing("No run has been trained."), table
    size = (3.5 * len(models), 3.3)
    figure, grid = plt.subplots(1, len(models), figsize=size, squeeze=False, sharex=True, sharey=True)
    for axes, model in zip(grid[0], models, strict=True):
        part = tails[tails["model"] == model]
        axes.set(xlim=(near_zero / 30, 30 * near_zero), ylim=(1e-3, 1))  # where there is no tail
        drawing.run_lines(axes, part[(part["share"] > 0) & (part["threshold"] > 0)], "threshold", "share")
        axes.axvline(near_zero, color=drawing.MARK, linestyle=":", linewidth=1.1, label=f"$t = {near_zero:g}$")
        title = f"{results.title_of(str(results.dataset))}, {model}"
        axes.set(xscale="log", yscale="log", title=title, xlabel="$t$")
        drawing.note(axes, [*_near_zero(part, near_zero), *drawing.not_shown(minima, str(results.dataset), model)])
    bulk = tails[tails["share"] > 0.9].groupby(["model", "batch_size", "seed"])["threshold"].max()
    smallest = max(min([near_zero / 30, *bulk]), near_zero / 1e5)  # further left there is little to see
    axes.set(xlim=(smallest, 1.5 * max([30 * near_zero, *tails["threshold"][tails["share"] > 0]])))
    lowest = float(tails["share"][tails["share"] > 0].min()) if len(tails) else 1e-3
    axes.set_ylim(lowest**1.2, 1.5)  # room for the notes below the tails
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_locator(NullLocator())
    grid[0][0].set_ylabel("share of the samples with $|a_x| > t$")
    handles, labels = drawing.legend(grid[0])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure, table


def _passed(results: Results, table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the data set at E*, of the runs that have passed it."""
    import pandas as pd

    from fishertail.results.schema import RUN

    keys = [key for key, found in results.minima().items() if found.passed and key[0] == results.dataset]
    return results.at_minimum(table).merge(pd.DataFrame(keys, columns=RUN), on=RUN)


def _tails(histograms: "pd.DataFrame", statistics: "pd.DataFrame", near_zero: float) -> "pd.DataFrame":
    """The tail of each run, with the columns of a run, step and epoch in front."""
    import pandas as pd

    from fishertail.results.schema import RUN

    keys = [*RUN, "step", "epoch"]
    known = {tuple(getattr(row, name) for name in RUN): row for row in statistics.itertuples()}
    parts = []
    for key, bins in histograms.groupby(keys, sort=False):
        tail = _tail(bins, known.get(tuple(key)[: len(RUN)]), near_zero)
        run = pd.DataFrame([key] * len(tail), columns=keys)
        parts.append(pd.concat([run, tail], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*keys, "threshold", "share"])


def _tail(bins: "pd.DataFrame", sizes: Any, near_zero: float) -> "pd.DataFrame":
    """The share of the samples with abs(a_x) > t, at the edges t of the bins.

    Args:
        bins: the histogram of a_x.
        sizes: where known, a row of `ax_statistics`: it adds two points that need not be edges of bins, `near_zero`
            and the largest abs(a_x), where the tail ends.
        near_zero: see `ax_statistics`.
    """
    import numpy as np
    import pandas as pd

    edges = np.sort(bins["bin_right"].to_numpy(dtype=float))
    edges = edges[(edges > 0) & np.isfinite(edges)]
    left, right, count = (bins[name].to_numpy(dtype=float) for name in ("bin_left", "bin_right", "count"))
    beyond = [count[(left >= edge * (1 - 1e-9)) | (right <= -edge * (1 - 1e-9))].sum() for edge in edges]
    tail = pd.DataFrame({"threshold": edges, "share": np.array(beyond) / count.sum()})
    if sizes is None:
        return tail
    more = {"threshold": [near_zero, sizes.largest], "share": [1 - sizes.near_zero_share, 1 / sizes.samples]}
    beside = tail[(edges < sizes.largest) & ~np.isclose(edges, near_zero)]
    whole: pd.DataFrame = pd.concat([beside, pd.DataFrame(more)], ignore_index=True)
    return whole.sort_values("threshold", ignore_index=True)


def _near_zero(table: "pd.DataFrame", near_zero: float) -> list[str]:
    """By batch size, from the fewest to the most samples near 0 of a run."""
    import numpy as np

    from fishertail.results import drawing

    lines = []
    for batch_size, part in drawing.by_batch_size(table[np.isclose(table["threshold"].astype(float), near_zero)]):
        shares = sorted({f"{100 * (1 - share):.1f}" for share in part["share"]}, key=float)
        shown = shares[0] if len(shares) == 1 else f"{shares[0]} to {shares[-1]}"
        lines.append(f"batch size {batch_size}: {shown} % below {near_zero:g}")
    return lines


FIGURE = Figure(
    name="fig{number}_ax_at_minimum_{dataset}",
    title="Fig. {number}: a_x at the lowest validation loss, {dataset}",
    caption=(
        "The share of the training samples with |a_x| > t at each run's epoch of lowest validation loss: a line for "
        "each run, which ends at its largest |a_x|. Both axes are logarithmic. The dotted line is at what the paper "
        "calls near 0, and a note says which share of the samples lies below it, from the run with the fewest to the "
        "one with the most. Runs that stopped before they had passed their lowest validation loss are not shown, and "
        "named. Bears on claim 3: the larger batch size has the larger |a_x|, the smaller one more samples near 0."
    ),
    needs=("ax_histogram", "ax_statistics", "metrics"),
    draw=draw,
    settings=("measurements.ax_statistics.near_zero",),
    rule="fig4_5_ax_at_minimum",
    numbers=lambda dataset: 5 if dataset == "mnist" else 4,
)
