"""Claim 4: a few samples carry lambda_1."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd


def measure(results: Results) -> "pd.DataFrame":
    """By how many per cent lambda_1 shrinks without the samples of largest abs(a_x), at E*."""
    from fishertail.paper.claims.claim import at_minimum

    shown = at_minimum(results, results.of_layer("trimmed"))
    return shown.assign(percent=100 * results.settings["measurements.trimmed_eigenvalues.fraction"])


CLAIM = Claim(
    name="4",
    statement="Removing the 10 % of the samples with the largest |a_x| shrinks lambda_1 by 60 to 99.97 %.",
    measure=measure,
    quantities=(
        Quantity(
            "decrease_percent",
            "decrease of lambda_1 without {fraction:.0%} of the samples (%)",
            lower=60,
            scale="decrease",
        ),
        Quantity("decrease_resolved_percent", "the same, re-solved (%)", lower=60, scale="decrease", decides=False),
    ),
    needs=("metrics", "trimmed"),
    settings=("measurements.trimmed_eigenvalues.fraction",),
)
