"""Fig. 7: the share of outliers, with the validation loss, on the time scale of the lowest validation loss."""

from typing import TYPE_CHECKING

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from fishertail.results.drawing import LogarithmicTime

ENOUGH = 1  # per cent of the samples: claim 5 takes outliers to have arisen from here on
AROUND = (0.5, 2)  # and this to be around the lowest validation loss
DECADE = 10


def draw(results: Results) -> Drawing:
    """Of the whole network's norms: for each network the share above the loss, a line for each run past its minimum."""
    import numpy as np
    import pandas as pd
    from matplotlib import pyplot as plt

    from fishertail.results import drawing

    outliers, reading = results.of_layer("outliers", "network"), results.settings["measurements.outliers.reading"]
    shares = outliers.assign(value=outliers[f"outliers_{reading}"] / outliers["samples"])
    losses = results["metrics"].assign(value=results["metrics"]["validation_loss"])
    shares, losses = (_since_minimum(results, each) for each in (shares, losses))
    table = pd.concat([shares.assign(quantity="share"), losses.assign(quantity="validation_loss")], ignore_index=True)
    shares, losses = (each[each["time"].notna()] for each in (shares, losses))
    minima = results.minima()
    pairs = list(dict.fromkeys(key[:2] for key in minima))
    if not pairs:
        return drawing.nothing("No run has been trained."), table
    lowest = 50 / max([*outliers["samples"], 1])  # per cent: half of a sample
    columns, rows = min(len(pairs), 2), -(-len(pairs) // 2)
    size = (7.0 if columns > 1 else 4.6, 3.3 * rows + 0.4)
    figure, grid = plt.subplots(2 * rows, columns, figsize=size, squeeze=False, height_ratios=(1.4, 1) * rows)
    for axes in grid.T.reshape(columns, rows, 2).transpose(1, 0, 2).reshape(-1, 2)[len(pairs) :].flat:
        axes.axis("off")
    for position, (dataset, model) in enumerate(pairs):
        upper, lower = grid[2 * (position // columns) :, position % columns][:2]
        share, loss = (drawing.of_network(each, dataset, model) for each in (shares, losses))
        first = _first(share)
        share, loss = (each[each["time"] >= first] for each in (share, loss))
        times = np.array([*share["time"], *loss["time"], *AROUND], dtype=float)
        time = drawing.LogarithmicTime(times)
        _share(upper, share, time, lowest)
        _loss(lower, loss, time)
        for axes in (upper, lower):
            _around(axes, time, first, float(times.max()))
        upper.set_title(f"{results.title_of(dataset)}, {model}")
        upper.tick_params(labelbottom=False)
        left_out = drawing.not_shown(minima, dataset, model)
        lower.set_xlabel("\n".join(["time / time of the lowest validation loss", *left_out]))
        if position % columns == 0:
            upper.set_ylabel("outliers (%)")
            lower.set_ylabel("validation loss")
    figure.align_ylabels()
    handles, labels = drawing.legend(grid.flat)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns + 1)
    return figure, table


def _since_minimum(results: Results, table: "pd.DataFrame") -> "pd.DataFrame":
    """The values with their time over that of E*, which runs that have not passed it do not have."""
    import pandas as pd

    from fishertail.results.schema import RUN

    minima = results.minima().items()
    rows = [(*key, found.status, found.step if found.passed else None) for key, found in minima]
    steps = pd.DataFrame(rows, columns=[*RUN, "minimum", "step_of_minimum"])
    shown = table[[*RUN, "step", "epoch", "value"]].merge(steps, on=RUN)
    return shown.assign(time=shown["step"] / shown["step_of_minimum"].astype(float)).drop(columns="step_of_minimum")


def _first(share: "pd.DataFrame") -> float:
    """Where a panel begins: a decade before outliers arise in any run; at step 0 if that is sooner, or they do not."""
    first = float(share.loc[100 * share["value"] >= ENOUGH, "time"].min()) / DECADE
    return first if first > float(share.loc[share["time"] > 0, "time"].min()) else 0.0


def _share(axes: "Axes", table: "pd.DataFrame", time: "LogarithmicTime", lowest: float) -> None:
    """In per cent; without an outlier, half of a sample."""
    from matplotlib.ticker import NullLocator

    from fishertail.results import drawing

    shown = table.assign(place=time.positions(table["time"]), value=(100 * table["value"]).clip(lower=lowest))
    drawing.run_lines(axes, shown, "place", "value")
    powers = [10.0**power for power in range(-8, 3) if 10.0**power > 2 * lowest]
    axes.set(yscale="log", ylim=(lowest / 1.3, 130))
    axes.set_yticks([lowest, *powers], ["0", *(f"{power:g}" for power in powers)])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhline(ENOUGH, color=drawing.MARK, linewidth=0.9, linestyle=":", label=f"{ENOUGH:g} % of the samples")


def _loss(axes: "Axes", table: "pd.DataFrame", time: "LogarithmicTime") -> None:
    from fishertail.results import drawing

    drawing.run_lines(axes, table.assign(place=time.positions(table["time"])), "place", "value")
    if (table["value"] > 0).any():
        axes.set_yscale("log", nonpositive="mask")
        drawing.log_ticks(axes.yaxis)
    else:
        axes.set_yticks([])


def _around(axes: "Axes", time: "LogarithmicTime", first: float, last: float) -> None:
    """Mark the lowest validation loss, and what is around it; limits and ticks of the axis of time."""
    from fishertail.results import drawing

    near = [float(place) for place in time.positions(AROUND)]
    axes.axvspan(*near, color="#000000", alpha=0.07, linewidth=0, label="half to twice its time")
    axes.axvline(float(time.positions(1)), color=drawing.MARK, linewidth=1.1, label="lowest validation loss")
    axes.set_xlim(float(time.positions(first)) - 0.3, float(time.positions(last)) + 0.3)
    time.label(axes.xaxis, last)


FIGURE = Figure(
    name="fig7_outliers",
    title="Fig. 7: number of outliers",
    caption=(
        "The number of training samples whose gradient norm is an outlier by MAD, as a share of all, and the "
        "validation loss below it: a line for each run, over its time relative to that of its lowest validation loss. "
        "All axes are logarithmic, with no outlier at the bottom. A panel begins a decade before the first run "
        "crosses the dotted line, or with step 0. If outliers arise around the lowest validation loss, the lines "
        "cross it within the grey band. Runs that stopped before they had passed their lowest validation loss have no "
        "such time; a note names them. Bears on claim 5."
    ),
    needs=("outliers", "metrics"),
    draw=draw,
    settings=("measurements.outliers.reading",),
)
