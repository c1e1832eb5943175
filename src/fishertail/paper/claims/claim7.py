"""Claim 7: outliers tell when generalization ends.

**In the paper.** The number of outliers predicts when generalization ends (5).

**Measured.** The error of stopping where the share of outliers passes a threshold, abs(log2(estimate / true epoch)),
against that of stopping by training loss and after the last epoch. Thresholds are fitted on all runs but those of the
same data set and model, since a user would have no others. By network, over those that vote and have passed their
lowest validation loss.

**What would change it.** More data sets: there are two, so that a threshold is tested on one that it was fitted on
already, with another model. How long training goes on, which moves the error of the last epoch.
"""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd


def measure(results: Results) -> "pd.DataFrame":
    """By how much the errors of other stopping rules exceed that of counting outliers, network by network.

    Thresholds are fitted on the runs of every other combination of data set and model. A row is the mean over the seeds
    of a network, which are alike, so that the networks are what the mean is taken over, as in the table `stopping`.
    """
    import pandas as pd

    from fishertail.paper import stopping

    data = (
        results["metrics"],
        results.of_layer("outliers", "network"),
        results.settings["measurements.outliers.reading"],
    )
    found = stopping.evaluate(*data)
    found = found[found["left_out"] == stopping.ARCHITECTURE]
    errors = found.groupby(["dataset", "model", "batch_size", "rule"])["error"].mean().unstack("rule")
    columns = ["dataset", "model", "batch_size", "seed", *(quantity.column for quantity in QUANTITIES)]
    if errors.empty:
        return pd.DataFrame(columns=columns)
    others = {
        q.column: errors[rule] - errors["outliers"] for q, rule in zip(QUANTITIES, stopping.RULES[1:], strict=True)
    }
    return pd.DataFrame(others).reset_index().assign(seed=range(len(errors)))[columns]


QUANTITIES = (
    Quantity("against_training_loss", "error of stopping by training loss - by outliers, in octaves", lower=0),
    Quantity("against_last_epoch", "error of stopping after the last epoch - by outliers, in octaves", lower=0),
)
CLAIM = Claim(
    name="7",
    statement="Outliers predict when generalization ends.",
    measure=measure,
    quantities=QUANTITIES,
    needs=("metrics", "outliers"),
    settings=("measurements.outliers.reading",),
    compares="all runs",
    figures=("outliers_against_fit",),
)
