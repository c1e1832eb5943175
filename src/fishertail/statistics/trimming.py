"""What lambda_1 loses without the samples that carry it (Fig. 6): those of largest abs(a_x), or at both ends of a_x."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def trimmed(projections: ArrayLike, fraction: float = 0.1) -> NDArray[np.bool_]:
    """Which samples stay when the share `fraction` of largest abs(a_x) is left out: (N,) bool.

    floor(fraction * N) samples are left out; among equals the later ones stay.
    """
    projections = np.asarray(projections)
    keep = np.ones(len(projections), dtype=bool)
    largest_first = np.argsort(-np.abs(projections), kind="stable")
    keep[largest_first[: int(fraction * len(projections))]] = False
    return keep


def trimmed_eigenvalue(projections: ArrayLike, fraction: float = 0.1) -> float:
    """B of Fig. 6 with V_1 kept: the mean of a_x^2 over the samples that stay (see `trimmed`)."""
    projections = np.asarray(projections, dtype=np.float64)
    return float(np.square(projections[trimmed(projections, fraction)]).mean())


def trimmed_at_both_ends(projections: ArrayLike, fraction: float = 0.1) -> NDArray[np.bool_]:
    """Which samples stay when half of the share `fraction` is left out at each signed end of a_x: (N,) bool.

    floor(fraction / 2 * N) samples of smallest (most negative) and as many of largest a_x are left out, the other
    reading of the caption of Fig. 6; among equals at an end those in the middle of the data set stay.
    """
    projections = np.asarray(projections)
    keep = np.ones(len(projections), dtype=bool)
    each = int(fraction / 2 * len(projections))
    ascending = np.argsort(projections, kind="stable")
    keep[ascending[:each]] = False
    keep[ascending[len(projections) - each :]] = False
    return keep


def decrease(largest: float, left: float) -> float:
    """By how many per cent `left` is smaller than `largest`: 100 (1 - left / largest), and 0 where that is 0.

    It is NaN where F is not defined.
    """
    return 100 * (1 - left / largest) if largest != 0 else 0.0
