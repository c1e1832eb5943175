"""Claim 5: outliers arise from around the lowest validation loss on.

**In the paper.** Outliers arise rapidly from around the lowest validation loss on (4.3; Fig. 7).

**Measured.** The first epoch at which 1 % of the training samples are outliers (gradient norms more than 10 MAD from
their median, in the network), over the epoch of lowest validation loss: between one half and twice. A run in which they
have not arisen by twice that epoch counts with four times it.

**What would change it.** The share that counts as arisen, where the rise is slow. The data set: the share of outliers
is nearly a function of how well the training data are fitted, so that they come early where the data are fitted long
before the validation loss is lowest, as on MNIST, and late or never where they are not.
"""

from typing import TYPE_CHECKING, Any

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fishertail.paper.claims.points import Key, Time

SHARE = 0.01  # of the samples are outliers: fewer are no onset
NEVER = 4  # times E*, where outliers have not arisen by twice E*


def measure(results: Results) -> "pd.DataFrame":
    """When the share of outliers first reaches a hundredth, over E*."""
    import numpy as np

    from fishertail.paper.claims.points import Rows, measured

    reading = results.settings["measurements.outliers.reading"]
    outliers = Rows(results.of_layer("outliers", "network"))

    def of_run(run: "Key", time: "Time") -> dict[str, Any]:
        rows = outliers.at(run, time.points())
        if rows is None:
            return {"onset_ratio": np.nan, "stopped_early": False}
        shares = (rows[f"outliers_{reading}"] / rows["samples"]).to_numpy()
        epoch, lowest = onset(rows["epoch"].to_numpy(), shares), time.minimum.epoch
        if np.isnan(epoch):
            long_enough = time.minimum.last_epoch >= 2 * lowest
            return {"onset_ratio": float(NEVER) if long_enough else np.nan, "stopped_early": not long_enough}
        return {"onset_ratio": epoch / lowest, "stopped_early": False}

    return measured(results, of_run)


def onset(epochs: "np.ndarray", shares: "np.ndarray") -> float:
    """The first epoch above 0 at which a share of outliers reaches `SHARE`; NaN where it never does.

    Between two points the share is linear in the logarithm of the epoch.

    Args:
        epochs: (n,) ascending from 0.
        shares: (n,).
    """
    import numpy as np

    after = epochs > 0
    epochs, shares = epochs[after], shares[after]
    reached = np.flatnonzero(shares >= SHARE)
    if not len(reached):
        return np.nan
    at = int(reached[0])
    if at == 0:
        return float(epochs[0])
    part = (SHARE - shares[at - 1]) / (shares[at] - shares[at - 1])
    return float(np.exp(np.log(epochs[at - 1]) + part * (np.log(epochs[at]) - np.log(epochs[at - 1]))))


CLAIM = Claim(
    name="5",
    statement="Outliers arise rapidly from around the lowest validation loss on.",
    measure=measure,
    quantities=(
        Quantity(
            "onset_ratio",
            f"epoch at which {SHARE:.0%} of the samples are outliers / that of lowest validation loss",
            0.5,
            2,
            "ratio",
        ),
    ),
    needs=("metrics", "outliers"),
    settings=("measurements.outliers.reading",),
    figures=("fig7_outliers",),
)
