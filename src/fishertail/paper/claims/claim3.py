"""Claim 3: the larger batch size has the larger lambda_1, the smaller one more samples near 0.

**In the paper.** At the lowest validation loss, batch size 256 has the larger lambda_1 and largest abs(a_x) (direction
from Fig. 6), 16 the more samples near 0 (4.2; Figs. 4, 5).

**Measured.** Each run at its own epoch of lowest validation loss, in pairs of equal seed, which begin with the same
weights: the ratio of lambda_1, of the largest abs(a_x), and the odds of a sample near 0. A pair counts as one network.

**What would change it.** A comparison at equal epochs, equal steps, or equal training loss: the runs differ in how far
they have come when their validation loss is lowest, and lambda_1 falls as the training data are fitted. Equal ratios of
rate and batch size: at one rate, the larger batch is also the less noisy training.
"""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd


def measure(results: Results) -> "pd.DataFrame":
    """A network's batch sizes, 256 against 16 or the largest against the smallest, each at its own E*, by seed."""
    import numpy as np
    import pandas as pd

    from fishertail.paper.claims.judging import batch_sizes, in_words
    from fishertail.paper.claims.points import Rows, clipped, odds_ratio, times

    spectrum = results.of_layer("spectrum")
    eigenvalues = Rows(spectrum[spectrum["rank"] == 1])
    statistics = Rows(results.of_layer("ax_statistics"))
    passed = {run: time for run, time in times(results).items() if time.minimum.passed}
    rows = []
    for network, (large, small) in batch_sizes(results["metrics"]).items():
        seeds = sorted({run[3] for run in passed if run[:2] == network})
        for seed in seeds:
            pair = [(*network, batch_size, seed) for batch_size in (large, small)]
            if large == small or not set(pair) <= set(passed):
                continue
            at = [(run, passed[run].minimum.step) for run in pair]
            lambda_1 = np.array([eigenvalues.value(*each, "eigenvalue") for each in at])
            largest = np.array([statistics.value(*each, "largest") for each in at])
            near = [clipped(statistics.value(*e, "near_zero_share"), statistics.value(*e, "samples")) for e in at]
            with np.errstate(divide="ignore", invalid="ignore"):  # a dead network has no gradients
                ratios = {"eigenvalue_ratio": lambda_1[0] / lambda_1[1], "largest_ratio": largest[0] / largest[1]}
            rows.append(
                {"dataset": network[0], "model": network[1], "batch_size": in_words(large, small), "seed": seed}
                | ratios
                | {"near_zero_odds": odds_ratio(near[1], near[0])}
            )
    columns = ["dataset", "model", "batch_size", "seed", *(quantity.column for quantity in QUANTITIES)]
    return pd.DataFrame(rows, columns=columns)


QUANTITIES = (
    Quantity("eigenvalue_ratio", "lambda_1, large batch / small", lower=1, scale="ratio"),
    Quantity("largest_ratio", "largest |a_x|, large batch / small", lower=1, scale="ratio"),
    Quantity("near_zero_odds", "odds of |a_x| < {near_zero:g}, small batch / large", lower=1, scale="ratio"),
)
CLAIM = Claim(
    name="3",
    statement=(
        "At the lowest validation loss, batch size 256 has the larger lambda_1 and largest |a_x|, batch size 16 the "
        "more samples near 0."
    ),
    measure=measure,
    quantities=QUANTITIES,
    needs=("metrics", "spectrum", "ax_statistics"),
    settings=("measurements.ax_statistics.near_zero",),
    compares="batch sizes",
    figures=("fig5_ax_at_minimum_mnist", "fig4_ax_at_minimum_cifar10"),
)
