"""How a_x is distributed, in a few numbers: the share near 0, the largest, and quantiles of its size."""

import numpy as np
import pandas as pd

QUANTILES = {"median": 0.5, "quantile_90": 0.9, "quantile_99": 0.99}
AX_COLUMNS = ["epoch", "layer", "samples", "near_zero_share", "largest", *QUANTILES]


def ax_statistics(projections: pd.DataFrame, near_zero: float = 0.1) -> pd.DataFrame:
    """Statistics of abs(a_x) over all samples, for every epoch and layer.

    Args:
        projections: columns epoch, sample, and a_x of each layer and of the network.
        near_zero: an abs(a_x) below it counts as near 0 (the paper takes 0.1).

    Returns:
        AX_COLUMNS, a row an epoch and layer.
    """
    layers = [column for column in projections if column not in ("epoch", "sample")]
    rows = []
    for epoch, part in projections.groupby("epoch"):
        for layer in layers:
            size = np.abs(part[layer].to_numpy(dtype=np.float64))
            quantiles = dict(zip(QUANTILES, np.quantile(size, list(QUANTILES.values())), strict=True))
            share = float((size < near_zero).mean())
            rows.append(
                {"epoch": epoch, "layer": layer, "samples": len(size), "near_zero_share": share, "largest": size.max()}
                | quantiles
            )
    return pd.DataFrame(rows, columns=AX_COLUMNS)
