"""Which training samples are the outliers: those of largest gradient norm at each epoch, to be looked at."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fishertail.mad import outliers

COLUMNS = ["epoch", "sample", "label", "loss", "correct", "norm", "a_x"]


def outlier_samples(
    gradients: pd.DataFrame,
    projections: pd.DataFrame,
    labels: np.ndarray,
    *,
    layer: str,
    count: int = 12,
    threshold: float = 10,
    reading: str = "distance",
) -> pd.DataFrame:
    """The outliers of largest gradient norm of the network, `count` at each epoch that has projections, largest first.

    Args:
        gradients: columns epoch, sample, loss, correct, network (the norm) and those of layers.
        projections: columns epoch, sample, and a_x of each layer.
        labels: (N,) of the training samples.
        layer: whose a_x is shown.
        threshold: an outlier's, in units of MAD.
        reading: see `fishertail.outliers`.

    Returns:
        COLUMNS; norm is that of the whole network.
    """
    parts = []
    for epoch, shown in projections.groupby("epoch"):
        part = gradients[gradients["epoch"] == epoch].merge(
            shown[["sample", layer]].rename(columns={layer: "a_x"}), on="sample"
        )
        part = part.assign(label=labels[part["sample"].to_numpy()], norm=part["network"])
        part = part[outliers(part["network"].to_numpy(), threshold, reading).mask]
        parts.append(part.sort_values("norm", ascending=False, kind="stable").head(count)[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def of_blocks(
    blocks: Iterable[tuple[pd.DataFrame, pd.DataFrame]], at_minimum: pd.DataFrame, labels: np.ndarray, **options
) -> pd.DataFrame:
    """`outlier_samples` of all blocks of a run, and at the epoch of lowest validation loss.

    Args:
        blocks: gradients and projections of each; one block at a time is held in memory.
        at_minimum: the projections at that epoch, which those of the blocks may lack.
        labels, options: see `outlier_samples`.
    """
    parts = []
    for gradients, projections in blocks:
        missing = at_minimum["epoch"].isin(gradients["epoch"]) & ~at_minimum["epoch"].isin(projections["epoch"])
        shown = pd.concat([part for part in (projections, at_minimum[missing]) if len(part)] or [projections])
        parts.append(outlier_samples(gradients, shown, labels, **options))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
