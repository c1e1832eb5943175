"""Outliers among the gradient norms by the median absolute deviation (MAD, eq. 8)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Reading = Literal["distance", "norm"]
READINGS: tuple[Reading, ...] = ("distance", "norm")


@dataclass(frozen=True)
class Outliers:
    """Which samples are outliers, and the median and MAD by which they are."""

    mask: NDArray[np.bool_]  # (N,) bool
    median: float
    mad: float  # median(abs(x - median(x)))

    @property
    def count(self) -> int:
        return int(self.mask.sum())


def outliers(norms: ArrayLike, threshold: float = 10, reading: Reading = "distance") -> Outliers:
    """The samples whose gradient norm is far out, in units of MAD.

    Args:
        norms: (N,) L2 norms of the per-sample gradients.
        threshold: how many MAD (the paper takes 10).
        reading: "distance" (default): the distance of the norm from the median exceeds the threshold. "norm": the norm
            itself does; this is the paper's wording, by which a tenth of MNIST are outliers before training.

    Norms that are not finite are outliers, and count for neither median nor MAD. MAD = 0 makes every norm that differs
    from the median (with "norm": from 0) an outlier.

    Raises:
        ValueError: no norms, or an unknown reading.
    """
    norms = np.asarray(norms, dtype=np.float64)
    if norms.ndim != 1 or norms.size == 0:
        raise ValueError(f"norms: one number for each sample expected, found shape {norms.shape}")
    if reading not in READINGS:
        raise ValueError(f"reading: one of {', '.join(READINGS)} expected, found {reading!r}")
    finite = np.isfinite(norms)
    if not finite.any():
        return Outliers(mask=~finite, median=np.inf, mad=np.inf)
    median = float(np.median(norms[finite]))
    mad = float(np.median(np.abs(norms[finite] - median)))
    size = np.abs(norms - median) if reading == "distance" else norms
    return Outliers(mask=(size > threshold * mad) | ~finite, median=median, mad=mad)
