"""Claim 3: the larger batch size has the larger lambda_1, the smaller one more samples near 0."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import Claim, Quantity
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd


def measure(results: Results) -> "pd.DataFrame":
    """A network's largest batch size against the smallest, seed by seed, which start from the same weights."""
    from fishertail.paper.claims.claim import at_minimum
    from fishertail.paper.claims.judging import batch_sizes, in_words
    from fishertail.results.schema import RUN

    spectrum = results.of_layer("spectrum")
    first = spectrum[spectrum["rank"] == 1]
    statistics = at_minimum(results, results.of_layer("ax_statistics"))[[*RUN, "step", "largest", "near_zero_share"]]
    shown = statistics.merge(first[[*RUN, "step", "eigenvalue"]], on=[*RUN, "step"])
    keys = ["dataset", "model", "seed"]
    ends = batch_sizes(results["metrics"])
    both = shown.merge(ends[ends["large"] > ends["small"]], on=keys[:2])
    large, small = (
        both[both["batch_size"] == both[end]].drop(columns=["large", "small"]) for end in ("large", "small")
    )
    pairs = large.merge(small, on=keys, suffixes=("_large", "_small"))
    return pairs[keys].assign(
        batch_size=in_words(pairs["batch_size_large"], pairs["batch_size_small"]),
        eigenvalue_ratio=pairs["eigenvalue_large"] / pairs["eigenvalue_small"],
        largest_ratio=pairs["largest_large"] / pairs["largest_small"],
        near_zero_difference=pairs["near_zero_share_small"] - pairs["near_zero_share_large"],
    )


CLAIM = Claim(
    name="3",
    statement=(
        "At the lowest validation loss, batch size 256 has the larger lambda_1 and largest |a_x|, batch size 16 "
        "more samples near 0."
    ),
    measure=measure,
    quantities=(
        Quantity("eigenvalue_ratio", "lambda_1, large batch / small", lower=1, scale="ratio"),
        Quantity("largest_ratio", "largest |a_x|, large batch / small", lower=1, scale="ratio"),
        Quantity("near_zero_difference", "share near 0, small batch - large", lower=0),
    ),
    needs=("metrics", "spectrum", "ax_statistics"),
    compares="batch sizes",
)
