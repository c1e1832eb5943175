"""How many eigenvalues of a Fisher matrix can be large, from the largest of them and the trace."""

import math


def share_above(
    ratio: float, *, eigenpairs: int, lambda_1: float, of_largest: float, trace: float, parameters: int
) -> float:
    """An upper bound of the share of the eigenvalues that exceed lambda_1 / ratio; NaN where lambda_1 is not finite.

    None is negative, so that each beyond the largest takes more than lambda_1 / ratio of what these leave of the trace.

    Args:
        ratio: above 1.
        eigenpairs: how many of the largest are known.
        of_largest: their sum.
        trace: the sum of all.
        parameters: how many there are.
    """
    if lambda_1 == 0:
        return 0.0
    if not math.isfinite(lambda_1):
        return float("nan")
    further = max(trace - of_largest, 0.0) / (lambda_1 / ratio)
    return min((eigenpairs + further) / parameters, 1.0)
