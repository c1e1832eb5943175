"""Outliers among the gradient norms by the median absolute deviation (eq. 8), and what trimming them does (Fig. 6)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

READINGS = ("distance", "norm")


@dataclass(frozen=True)
class Outliers:
    """Which samples are outliers, and by what."""

    mask: np.ndarray  # (N,) bool
    median: float
    mad: float  # median(abs(x - median(x)))

    @property
    def count(self) -> int:
        return int(self.mask.sum())


def outliers(norms: np.ndarray, threshold: float = 10, reading: Literal["distance", "norm"] = "distance") -> Outliers:
    """The samples whose gradient norm is far out, in units of MAD.

    Args:
        norms: (N,) L2 norms of the per-sample gradients.
        threshold: how many MAD (the paper takes 10).
        reading: "distance": the distance of the norm from the median exceeds the threshold (default); "norm": the norm
            itself does, the literal reading of the paper, by which a tenth of MNIST are outliers before training.

    Norms that are not finite are outliers, and count for neither median nor MAD. MAD = 0 makes every norm that differs
    from the median (by the other reading: from 0) an outlier.

    Raises:
        ValueError: no norms, or an unknown reading.
    """
    norms = np.asarray(norms, dtype=np.float64)
    if norms.ndim != 1 or norms.size == 0:
        raise ValueError(f"norms: one number a sample expected, found shape {norms.shape}")
    if reading not in READINGS:
        raise ValueError(f"reading: one of {', '.join(READINGS)} expected, found {reading!r}")
    finite = np.isfinite(norms)
    if not finite.any():
        return Outliers(mask=~finite, median=np.inf, mad=np.inf)
    median = float(np.median(norms[finite]))
    mad = float(np.median(np.abs(norms[finite] - median)))
    size = np.abs(norms - median) if reading == "distance" else norms
    return Outliers(mask=(size > threshold * mad) | ~finite, median=median, mad=mad)


def outlier_table(gradients: pd.DataFrame, threshold: float = 10) -> pd.DataFrame:
    """Median, MAD and outlier counts by both readings, for every epoch and every layer.

    Args:
        gradients: columns epoch, sample, loss, correct, and norms of each layer and of the network.

    Returns:
        columns epoch, layer, median, mad, outliers_distance, outliers_norm, samples.
    """
    layers = [column for column in gradients if column not in ("epoch", "sample", "loss", "correct")]
    rows = []
    for epoch, part in gradients.groupby("epoch"):
        for layer in layers:
            found = {reading: outliers(part[layer].to_numpy(), threshold, reading) for reading in READINGS}
            counts = {f"outliers_{reading}": found[reading].count for reading in READINGS}
            one = found["distance"]
            rows.append(
                {"epoch": epoch, "layer": layer, "median": one.median, "mad": one.mad, **counts, "samples": len(part)}
            )
    return pd.DataFrame(rows)


def trimmed(projections: np.ndarray, fraction: float = 0.1) -> np.ndarray:
    """Which samples stay when the share `fraction` of largest abs(a_x) is left out: (N,) bool.

    floor(fraction * N) samples are left out; among equals the later ones stay.
    """
    projections = np.asarray(projections)
    keep = np.ones(len(projections), dtype=bool)
    largest_first = np.argsort(-np.abs(projections), kind="stable")
    keep[largest_first[: int(fraction * len(projections))]] = False
    return keep


def trimmed_eigenvalue(projections: np.ndarray, fraction: float = 0.1) -> float:
    """B of Fig. 6 with V_1 kept: the mean of a_x^2 over the samples that stay (see `trimmed`)."""
    projections = np.asarray(projections, dtype=np.float64)
    return float(np.square(projections[trimmed(projections, fraction)]).mean())
