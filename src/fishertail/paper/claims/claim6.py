"""Claim 6: most eigenvalues are near 0, and lambda_1 depends on the data that it is computed from.

**In the paper.** Most eigenvalues are near 0; lambda_1 is very sensitive to the number of data it is computed from (1,
4.2).

**Measured.** An upper bound of the share of eigenvalues above lambda_1 / 100, from the ten largest and the trace, which
is exact: what is left of the trace can hold only so many. It cannot fail, being a bound. And the root mean square of
lambda_1(tenth) / lambda_1 - 1 over 20 random tenths of the training samples, re-solved, of at least 0.1. Beside it
stands what a Gaussian a_x would give, and its mean and deviation apart.

**What would change it.** The share of the data: the paper names none, and fewer samples give a worse lambda_1 of any
matrix. The number of samples: a tenth of 60,000 says nothing of a tenth of 600.
"""

from typing import TYPE_CHECKING, Any

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.paper.claims.points import Key, Time

TENTH = 0.1  # the share of the samples in a subset
RATIO = 100  # an eigenvalue below lambda_1 / RATIO is near 0


def measure(results: Results) -> "pd.DataFrame":
    """A bound of the share of eigenvalues above lambda_1 / 100, and how far lambda_1 of random tenths is off, at E*."""
    import numpy as np

    from fishertail.paper.claims.points import Rows, measured

    counts = Rows(results.of_layer("eigenvalue_count")) if "eigenvalue_count" in results.tables else None
    subsets = None
    if "subset_deviations" in results.tables:
        shares = results.of_layer("subset_deviations")
        subsets = Rows(shares[np.isclose(shares["share"], TENTH)])

    def of_run(run: "Key", time: "Time") -> dict[str, Any]:
        step = time.minimum.step
        deviations = ("rms", "gaussian", "bias", "deviation")
        found = {name: np.nan if subsets is None else subsets.value(run, step, name) for name in deviations}
        return {"above_share": np.nan if counts is None else _above(counts.at(run, [step]))} | found

    return measured(results, of_run)


def _above(counts: "pd.DataFrame | None") -> float:
    """The bound at a hundredth of lambda_1, whatever ratio was counted by."""
    from fishertail.statistics.eigenvalue_share import share_above

    if counts is None:
        return float("nan")
    row = counts.iloc[0]
    known = {name: row[name] for name in ("eigenpairs", "lambda_1", "trace", "parameters")}
    return share_above(RATIO, of_largest=row["sum_of_largest"], **known)


CLAIM = Claim(
    name="6",
    statement="Most eigenvalues are near 0, and lambda_1 is very sensitive to the number of data.",
    measure=measure,
    quantities=(
        Quantity(
            "above_share",
            "upper bound of the share of eigenvalues above lambda_1 / 100",
            upper=0.05,
            in_every_seed=True,
        ),
        Quantity("rms", "rms of lambda_1 of a random tenth / lambda_1 - 1", lower=0.1, scale="ratio"),
        Quantity("gaussian", "the same if a_x were Gaussian", scale="ratio", decides=False),
        Quantity("bias", "mean of lambda_1 of a random tenth / lambda_1 - 1", decides=False),
        Quantity("deviation", "its standard deviation over the tenths", scale="ratio", decides=False),
    ),
    needs=("metrics",),
    uses=("eigenvalue_count", "subset_deviations"),
    figures=("subsets_of_data",),
)
