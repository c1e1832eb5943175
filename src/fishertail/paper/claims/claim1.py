"""Claim 1: most samples lie near 0, and a few far out.

**In the paper.** Over time, about 10 % or more of the samples have abs(a_x) below 0.1, while the largest is hundreds to
thousands of times that (4.2; Figs. 2, 3; said to be alike for other batch sizes).

**Measured.** From epoch 1 to twice the epoch of lowest validation loss, the median over time of the share of samples
with abs(a_x) < 0.1, and of the largest abs(a_x) / 0.1. A median over time, since the sentence is about the course of
training and not about one checkpoint; from epoch 1, since the figures begin after training has begun.

**What would change it.** Another layer: abs(a_x) < 0.1 is a size, and layers differ in theirs. A threshold in units of
sqrt(lambda_1), the root mean square of a_x, would compare layers and networks; the paper's does not.
"""

from typing import TYPE_CHECKING, Any

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.paper.claims.points import Key, Time

TIMES = 200  # at which a curve is read: enough for its median


def measure(results: Results) -> "pd.DataFrame":
    """Medians over time, from epoch 1 on, of the share of samples near 0 and of the largest abs(a_x).

    Both are linear in time between points: the share on the scale of its logit, the size on that of its logarithm.
    """
    import numpy as np
    from scipy import special

    from fishertail.paper.claims.points import Rows, clipped, measured

    near_zero = results.settings["measurements.ax_statistics.near_zero"]
    statistics = Rows(results.of_layer("ax_statistics"))

    def of_run(run: "Key", time: "Time") -> dict[str, Any]:
        rows = statistics.at(run, time.points(first=1))
        if rows is None:
            return {"near_zero_share": np.nan, "largest_ratio": np.nan}
        seen = np.linspace(1, time.end, TIMES)
        logits = special.logit(clipped(rows["near_zero_share"].to_numpy(), rows["samples"].to_numpy()))
        with np.errstate(divide="ignore"):
            sizes = np.log(rows["largest"].to_numpy() / near_zero)
        share, size = (np.median(np.interp(seen, rows["epoch"], values)) for values in (logits, sizes))
        return {"near_zero_share": special.expit(share), "largest_ratio": np.exp(size)}

    return measured(results, of_run)


CLAIM = Claim(
    name="1",
    statement=(
        "Over time, about 10 % or more of the samples have |a_x| < 0.1, and the largest is hundreds to thousands of "
        "times that."
    ),
    measure=measure,
    quantities=(
        Quantity("near_zero_share", "share of the samples with |a_x| < {near_zero:g}", lower=0.09, scale="share"),
        Quantity("largest_ratio", "largest |a_x| / {near_zero:g}", lower=100, scale="ratio"),
    ),
    needs=("metrics", "ax_statistics"),
    settings=("measurements.ax_statistics.near_zero",),
    figures=("fig3_ax_over_epochs_mnist", "fig2_ax_over_epochs_cifar10"),
)
