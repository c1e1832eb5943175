"""How a_x is distributed: histograms with fixed bins, the share near 0, and quantiles of its size.

Bins are the same for all checkpoints, runs and papers, so that these can be compared bin by bin. They are symmetric
about 0: one from -smallest to smallest, then equal steps of log10(abs(a_x)) to `largest`, and an overflow bin on either
side. Counts add up to N.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTILES = {"median": 0.5, "quantile_90": 0.9, "quantile_99": 0.99}


def bin_edges(smallest: float = 1e-8, largest: float = 1e4, bins_per_decade: int = 4) -> NDArray[np.float64]:
    """Edges from -inf to inf, 2 (steps + 2) of them; the last step ends at `largest` exactly."""
    steps = max(round(bins_per_decade * np.log10(largest / smallest)), 1)
    positive = np.geomspace(smallest, largest, steps + 1)
    return np.concatenate([[-np.inf], -positive[::-1], positive, [np.inf]])


def histogram(projections: ArrayLike, edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts (len(edges) - 1,) of `projections` (N,); bins are closed below and open above.

    Raises:
        ValueError: a projection is NaN.
    """
    projections = np.asarray(projections, dtype=np.float64)
    if np.isnan(projections).any():
        raise ValueError("projections: numbers expected, found NaN")
    bins = np.clip(np.searchsorted(edges, projections, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(bins, minlength=len(edges) - 1)


def sizes(projections: ArrayLike, near_zero: float = 0.1) -> dict[str, float]:
    """The distribution of abs(a_x) in a few numbers.

    Args:
        projections: (N,) a_x of all samples.
        near_zero: an abs(a_x) below it counts as near 0 (the paper takes 0.1).

    Returns:
        samples (N), near_zero_share, largest, and the quantiles of QUANTILES.
    """
    size = np.abs(np.asarray(projections, dtype=np.float64))
    quantiles = dict(zip(QUANTILES, map(float, np.quantile(size, list(QUANTILES.values()))), strict=True))
    share = float((size < near_zero).mean())
    return {"samples": len(size), "near_zero_share": share, "largest": float(size.max())} | quantiles
