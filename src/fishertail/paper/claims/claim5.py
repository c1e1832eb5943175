"""Claim 5: the number of outliers takes off near the lowest validation loss."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RISE = 0.01  # of the samples become outliers at least: fewer are no take-off


def measure(results: Results) -> "pd.DataFrame":
    """How far, when and how late the outliers rise, up to twice the epoch of lowest validation loss."""
    import pandas as pd

    from fishertail.paper.claims.claim import passed
    from fishertail.results.schema import RUN

    reading, rows = results.settings["measurements.outliers.reading"], []
    lowest = passed(results).set_index(RUN)["epoch"].to_dict()
    for run, part in results.of_layer("outliers", "network").groupby(RUN, sort=False):
        if run in lowest:
            part = part.sort_values("step")
            shares = (part[f"outliers_{reading}"] / part["samples"]).to_numpy()
            rows.append([*run, *take_off(part["epoch"].to_numpy(), shares, lowest[run])])
    return pd.DataFrame(rows, columns=[*RUN, "rise", "take_off_ratio", "lateness"])


def take_off(epochs: "np.ndarray", shares: "np.ndarray", minimum: float) -> tuple[float, float, float]:
    """How the share of outliers rises from the initial weights to its highest by twice the epoch of the minimum.

    Args:
        epochs: (E,), increasing from 0.
        shares: (E,).
        minimum: the epoch of lowest validation loss.

    Returns:
        the rise; the epoch at which half of it is made, over `minimum`; and the part of it that comes after half of
        `minimum`, over that of a steady growth. The last two are NaN without a rise.
    """
    import numpy as np

    near = epochs <= 2 * minimum
    if not near.any():
        return np.nan, np.nan, np.nan
    epochs, shares = epochs[near], shares[near]
    rise = float(shares.max() - shares[0])
    if rise <= 0:
        return rise, np.nan, np.nan
    half_way = epochs[np.argmax(shares >= shares[0] + rise / 2)]
    late = 1 - (np.interp(minimum / 2, epochs, shares) - shares[0]) / rise
    return rise, float(half_way / minimum), float(late / (1 - minimum / 2 / epochs[-1]))


CLAIM = Claim(
    name="5",
    statement="The number of outliers takes off near the epoch of lowest validation loss.",
    measure=measure,
    quantities=(
        Quantity("rise", "rise of the share of outliers", lower=RISE),
        Quantity("take_off_ratio", "epoch of half the rise / that of lowest validation loss", 0.5, 2, "ratio"),
        Quantity("lateness", "part of the rise that is late / that of a steady growth", lower=1.1),
    ),
    needs=("metrics", "outliers"),
    settings=("measurements.outliers.reading",),
)
