"""Claim 2: lambda_1 first grows, then shrinks."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHANGE = 1.5  # growth and shrinking at least: noise of 30 % between checkpoints is hardly ever taken for more


def measure(results: Results) -> "pd.DataFrame":
    """lambda_1 at its largest over that of the initial, and of the last weights, both of which must be analysed."""
    import numpy as np
    import pandas as pd

    from fishertail.paper.claims.claim import passed
    from fishertail.results.schema import RUN

    spectrum = results.of_layer("spectrum")
    shown = spectrum[spectrum["rank"] == 1].merge(passed(results)[RUN], on=RUN)
    last = results["metrics"].groupby(RUN)["step"].max().to_dict()
    rows = []
    for run, part in shown.groupby(RUN, sort=False):
        part = part.sort_values("step")
        ends = part["step"].iloc[[0, -1]].tolist() == [0, last[run]]
        rows.append([*run, *(rise_and_fall(part["eigenvalue"].to_numpy()) if ends else (np.nan, np.nan))])
    return pd.DataFrame(rows, columns=[*RUN, "growth", "shrinking"])


def rise_and_fall(values: "np.ndarray") -> tuple[float, float]:
    """The largest median of three neighbours, which noise raises less than the largest value, over first and last."""
    import numpy as np

    if len(values) < 3:
        return np.nan, np.nan
    largest = np.median([values[:-2], values[1:-1], values[2:]], axis=0).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(largest / values[0]), float(largest / values[-1])


CLAIM = Claim(
    name="2",
    statement="lambda_1 first grows, then shrinks.",
    measure=measure,
    quantities=(
        Quantity("growth", "largest lambda_1 / initial lambda_1", lower=CHANGE, scale="ratio"),
        Quantity("shrinking", "largest lambda_1 / last lambda_1", lower=CHANGE, scale="ratio"),
    ),
    needs=("metrics", "spectrum"),
)
