"""How well the training data are fitted, beside the share of outliers.

Are outliers a matter of how well the training data are fitted? Mean loss and accuracy over all training samples, and
the share of the samples whose gradient norm, of the whole network, is an outlier as `outliers` has it. A sample that is
fitted has a gradient near 0, so that the median and the MAD fall towards 0 as more samples are fitted, and those that
are not stand far out. The share of outliers then says little that the training loss does not say, which bears on claim
5 and on the stopping rules. Nothing new is computed. The figure is drawn from `metrics` and `outliers`, which kept runs
have, too. Rank correlation over the checkpoints of a run is no test: neighbouring checkpoints are not independent.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Drawing, Figure, Results
from fishertail.results.schema import EPOCH, RUN, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis

    from fishertail.measurements.measurement import Checkpoint


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """One row: loss, accuracy and the share of outliers."""
    import pandas as pd

    from fishertail.statistics.outliers import outliers

    norms = at.tables["norms"]
    found = outliers(norms["network"].to_numpy(), **options["outliers"])
    row = {
        "train_loss": norms["loss"].astype(float).mean(skipna=False),
        "train_accuracy": norms["correct"].astype(float).mean(skipna=False),
        "outlier_share": found.count / len(norms),
    }
    return {TABLE.name: pd.DataFrame([row])}


def draw(results: Results) -> Drawing:
    """Every checkpoint of every run, by training accuracy and by training loss."""
    from matplotlib import pyplot as plt

    from fishertail.results import drawing

    table = _shown(results)
    figure, (by_accuracy, by_loss) = plt.subplots(1, 2, figsize=(7.0, 3.1), sharey=True)
    for (dataset, model), part in table.groupby(["dataset", "model"], sort=False):
        label = f"{results.title_of(str(dataset))}, {model}"
        for axes, x in ((by_accuracy, 1 - part["train_accuracy"]), (by_loss, part["train_loss"])):
            axes.scatter(x, part["outlier_share"], s=5, alpha=0.5, linewidths=0, label=label)
    by_accuracy.set(
        xlabel="1 - training accuracy", ylabel="share of outliers", title=_said(table, 1 - table["train_accuracy"])
    )
    by_loss.set(xlabel="training loss", xscale="log", title=_said(table, table["train_loss"]))
    left = _from_zero(by_accuracy.set_xscale, by_accuracy.xaxis, 1 - table["train_accuracy"])
    bottom = _from_zero(by_accuracy.set_yscale, by_accuracy.yaxis, table["outlier_share"])
    by_accuracy.set(xlim=(-left / 3, 1), ylim=(-bottom / 3, 1))
    handles, labels = drawing.legend([by_accuracy])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), markerscale=2)
    return figure, table


def _from_zero(set_scale: Callable[..., None], axis: "Axis", values: "pd.Series[float]") -> float:
    """Make an axis of shares logarithmic, and linear below the smallest that is not 0, which is returned."""
    from matplotlib.ticker import FixedLocator

    positive = values[values > 0]
    smallest = float(positive.min()) if len(positive) else 0.1
    set_scale("symlog", linthresh=smallest, linscale=0.5)
    powers = [10.0**power for power in range(-9, 1) if 10.0**power >= smallest]
    axis.set_ticks([0, *powers])
    axis.set_minor_locator(FixedLocator([]))
    return smallest


def _shown(results: Results) -> "pd.DataFrame":
    """The checkpoints that have both tables."""
    reading = results.settings["measurements.outliers.reading"]
    counts = results.of_layer("outliers", "network")
    shares = counts[[*RUN, "step", "epoch"]].assign(outlier_share=counts[f"outliers_{reading}"] / counts["samples"])
    return shares.merge(results["metrics"][[*RUN, "step", "train_accuracy", "train_loss"]], on=[*RUN, "step"])


def _said(table: "pd.DataFrame", values: "pd.Series[float]") -> str:
    """Spearman's rank correlation of the share of outliers with some values, if they differ, and over what it is."""
    correlation = values.rank().corr(table["outlier_share"].rank())
    said = f"rank correlation {correlation:.3f}" if correlation == correlation else "no rank correlation"
    runs, checkpoints = table.groupby(RUN).ngroups, len(table)
    return f"{said}\n({runs} run{'s' * (runs != 1)}, {checkpoints} checkpoint{'s' * (checkpoints != 1)})"


TABLE = Table(
    name="fit",
    suffix="csv",
    meaning="how well the training data are fitted, beside the share of outliers",
    columns=(
        STEP,
        EPOCH,
        Column("train_loss", "mean over the training samples"),
        Column("train_accuracy", "0 to 1, if samples have one class each"),
        Column("outlier_share", "share of the samples whose gradient norm in the network is an outlier"),
    ),
    keys=("step",),
)

FIGURE = Figure(
    name="outliers_against_fit",
    title="Outliers against fit",
    caption=(
        "The share of outliers among the gradient norms of the network at every checkpoint of every run, against the "
        "training accuracy and the training loss. Axes are logarithmic above the smallest that is not 0. Spearman's "
        "rank correlation is over all these checkpoints, which are not independent. Bears on claims 5 and 7: the share "
        "of outliers follows how well the training data are fitted."
    ),
    needs=("outliers", "metrics"),
    draw=draw,
    settings=("measurements.outliers.reading",),
)

MEASUREMENT = Measurement(
    name="fit",
    rule="fit",
    question="Are outliers a matter of how well the training data are fitted?",
    scope="tables",
    measure=measure,
    options=Options,
    needs=("norms",),
    options_of=("outliers",),
    figures=(FIGURE,),
    tables=(TABLE,),
)
