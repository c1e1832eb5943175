"""Claim 1: most samples lie near 0, and a few far out."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd


def measure(results: Results) -> "pd.DataFrame":
    """The share of samples near 0, and the largest abs(a_x) in units of what is near 0, at E*."""
    from fishertail.paper.claims.claim import at_minimum

    shown = at_minimum(results, results.of_layer("ax_statistics"))
    return shown.assign(largest_ratio=shown["largest"] / results.settings["measurements.ax_statistics.near_zero"])


CLAIM = Claim(
    name="1",
    statement=(
        "At least 10 % of the samples have |a_x| < 0.1, while the largest is hundreds to thousands of times that."
    ),
    measure=measure,
    quantities=(
        Quantity("near_zero_share", "share of the samples with |a_x| < {near_zero:g}", lower=0.1, scale="share"),
        Quantity("largest_ratio", "largest |a_x| / {near_zero:g}", lower=100, scale="ratio"),
    ),
    needs=("metrics", "ax_statistics"),
    settings=("measurements.ax_statistics.near_zero",),
)
