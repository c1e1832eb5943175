"""Fig. 7: the number of outliers over training, with the validation loss."""

from fishertail.results.exhibits import Drawing, Figure, Results


def draw(results: Results) -> Drawing:
    """Of the whole network's norms; the mean epoch of lowest validation loss is marked, of the runs that passed it."""
    import numpy as np
    import pandas as pd
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    from fishertail.results import drawing

    keys, reading = [*drawing.NETWORK, "step", "epoch"], results.settings["measurements.outliers.reading"]
    counts = drawing.bands(results.of_layer("outliers", "network"), keys, f"outliers_{reading}")
    losses = drawing.bands(results["metrics"], keys, "validation_loss")
    table = pd.concat([counts.assign(quantity="outliers"), losses.assign(quantity="validation_loss")])
    pairs = list(dict.fromkeys(zip(table["dataset"], table["model"], strict=True)))
    figure, grid = plt.subplots(
        2, len(pairs), figsize=(3.0 * len(pairs) + 0.6, 4.2), squeeze=False, sharex="col", height_ratios=(1.3, 1)
    )
    minima = {key: found.epoch for key, found in results.minima().items() if found.passed}
    for (dataset, model), (upper, lower) in zip(pairs, grid.T, strict=True):
        count, loss = (drawing.of_network(each, dataset, model) for each in (counts, losses))
        time = drawing.LogarithmicTime(loss["epoch"].to_numpy(dtype=float))
        for axes, shown in ((upper, count), (lower, loss)):
            drawing.curves(axes, shown.assign(epoch=time.positions(shown["epoch"])))
            for batch_size in sorted({key[2] for key in minima if key[:2] == (dataset, model)}):
                epochs = [epoch for key, epoch in minima.items() if key[:3] == (dataset, model, batch_size)]
                place = float(time.positions(np.mean(epochs)))
                axes.axvline(place, color=drawing.colour_of(batch_size)[0], linestyle=":", linewidth=1.1)
        time.label(lower.xaxis, float(loss["epoch"].max()))
        upper.set(title=f"{results.title_of(dataset)}, {model}")
        upper.set_ylim(bottom=0)
        lower.set(xlabel="epoch")
        if loss["mean"].max() > 8 * loss["mean"].min():
            lower.set_yscale("log")
    grid[0, 0].set_ylabel("outliers")
    grid[1, 0].set_ylabel("validation loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    mark = Line2D([], [], color=drawing.MARK, linestyle=":", linewidth=1.1)
    labels = [*labels, "lowest validation loss"]
    figure.legend([*handles, mark], labels, loc="outside upper center", ncols=len(labels))
    return figure, table.reset_index(drop=True)


FIGURE = Figure(
    name="fig7_outliers",
    title="Fig. 7: number of outliers",
    caption=(
        "The number of training samples whose gradient norm is an outlier by MAD, and the validation loss below "
        "it: the mean over the seeds, with a band from the lowest to the highest. Time is logarithmic, so that "
        "the first epoch is seen. Dotted lines mark the lowest validation loss, once it is passed. Bears on claim "
        "5: the count takes off near that epoch, and needs no validation data."
    ),
    needs=("outliers", "metrics"),
    draw=draw,
    settings=("measurements.outliers.reading",),
)
