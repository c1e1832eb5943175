"""Fig. 4 (CIFAR-10) and Fig. 5 (MNIST): how a_x is distributed at the lowest validation loss, by batch size."""

from typing import TYPE_CHECKING

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def draw(results: Results) -> Drawing:
    """A panel for each model; a note in it names the batch sizes at which some runs have not passed their minimum."""
    import pandas as pd
    from matplotlib import pyplot as plt

    from fishertail.results import drawing

    histograms = results.at_minimum(results.of_layer("ax_histogram"))
    histograms = histograms[histograms["dataset"] == results.dataset]
    table = drawing.shares(histograms, [*drawing.NETWORK, "bin_left", "bin_right"])
    passed = pd.DataFrame(
        [(*key[:3], found.passed) for key, found in results.minima().items()],
        columns=[*drawing.NETWORK, "seeds_past_minimum"],
    )
    table = table.merge(passed.groupby(drawing.NETWORK)["seeds_past_minimum"].sum().reset_index(), on=drawing.NETWORK)
    models = list(dict.fromkeys(table["model"]))
    figure, axes_row = plt.subplots(1, len(models), figsize=(3.9 * len(models), 3.1), squeeze=False, sharey=True)
    lowest = table["mean"][table["mean"] > 0].min()
    for axes, model in zip(axes_row[0], models, strict=True):
        part = table[table["model"] == model]
        _outlines(axes, part)
        title = f"{results.title_of(str(results.dataset))}, {model}"
        axes.set(yscale="log", ylim=(lowest / 2, 1), title=title, xlabel="$a_x$")
        axes.tick_params(axis="x", rotation=45)
        counts = part[part["seeds_past_minimum"] < part["seeds"]].groupby("batch_size").first()
        note = "\n".join(
            f"{row.Index}: lowest loss passed in {row.seeds_past_minimum} of {row.seeds}" for row in counts.itertuples()
        )
        if note:
            axes.annotate(note, (0.5, 0.97), xycoords="axes fraction", ha="center", va="top", fontsize=8.5)
    axes_row[0][0].set_ylabel("share of the samples")
    figure.legend(*drawing.legend(axes_row[0]), loc="outside upper center", ncols=table["batch_size"].nunique())
    return figure, table


def _outlines(axes: "Axes", part: "pd.DataFrame") -> None:
    import numpy as np
    import pandas as pd

    from fishertail.results import drawing

    for batch_size, bins in drawing.by_batch_size(part):
        colour, line = drawing.colour_of(batch_size)
        edges, label = np.arange(len(bins) + 1), f"batch size {batch_size}"
        axes.stairs(bins["mean"], edges, color=colour, linestyle=line, linewidth=1.4, label=label)
        axes.stairs(bins["highest"], edges, baseline=bins["lowest"].to_numpy(), fill=True, color=colour, alpha=0.25)
    first = part[part["batch_size"] == part["batch_size"].iloc[0]]
    drawing.label_bins(axes.xaxis, pd.MultiIndex.from_frame(first[["bin_left", "bin_right"]]))
    drawing.zoom(axes.set_xlim, part.pivot(index="batch_size", columns="bin_left", values="highest").to_numpy().T)


FIGURE = Figure(
    name="fig{number}_ax_at_minimum_{dataset}",
    title="Fig. {number}: a_x at the lowest validation loss, {dataset}",
    caption=(
        "How a_x is distributed at each run's epoch of lowest validation loss, by batch size: the mean over the "
        "seeds, with a band from the lowest to the highest. A note names the batch sizes at which some runs have "
        "not passed it; these are shown at their lowest loss so far. Bears on claim 3: the larger batch size has "
        "the larger |a_x|, the smaller one more samples near 0."
    ),
    needs=("ax_histogram", "metrics"),
    draw=draw,
    rule="fig4_5_ax_at_minimum",
    numbers=lambda dataset: 5 if dataset == "mnist" else 4,
)
