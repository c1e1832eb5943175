"""Histograms of a_x with fixed bins, so that epochs, runs and papers can be compared bin by bin.

Bins are symmetric about 0: one from -smallest to smallest, then equal steps of log10(abs(a_x)) to `largest`, and an
overflow bin on either side. Counts add up to N.
"""

import numpy as np
import pandas as pd


def bin_edges(smallest: float = 1e-8, largest: float = 1e4, bins_per_decade: int = 4) -> np.ndarray:
    """Edges from -inf to inf, 2 (steps + 2) of them; the last step ends at `largest` exactly."""
    steps = max(round(bins_per_decade * np.log10(largest / smallest)), 1)
    positive = np.geomspace(smallest, largest, steps + 1)
    return np.concatenate([[-np.inf], -positive[::-1], positive, [np.inf]])


def histogram(projections: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts (len(edges) - 1,) of `projections` (N,); bins are closed below and open above.

    Raises:
        ValueError: a projection is NaN.
    """
    projections = np.asarray(projections, dtype=np.float64)
    if np.isnan(projections).any():
        raise ValueError("projections: numbers expected, found NaN")
    bins = np.clip(np.searchsorted(edges, projections, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(bins, minlength=len(edges) - 1)


def histogram_table(projections: pd.DataFrame, edges: np.ndarray) -> pd.DataFrame:
    """Histograms of a_x for every epoch and every layer.

    Args:
        projections: columns epoch, sample, and a_x of each layer and of the network.

    Returns:
        columns epoch, layer, bin_left, bin_right, count; the bins that are empty included.
    """
    layers = [column for column in projections if column not in ("epoch", "sample")]
    parts = [
        pd.DataFrame(
            {
                "epoch": epoch,
                "layer": layer,
                "bin_left": edges[:-1],
                "bin_right": edges[1:],
                "count": histogram(part[layer].to_numpy(), edges),
            }
        )
        for epoch, part in projections.groupby("epoch")
        for layer in layers
    ]
    columns = ["epoch", "layer", "bin_left", "bin_right", "count"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
