"""The precision in which a network is trained."""

from collections.abc import Mapping
from typing import Any, Literal

PrecisionName = Literal["float32", "bfloat16"]
DEFAULT_PRECISION: PrecisionName = "float32"
PRECISION = "precision"  # the key beside the options of the network


def named(precision: PrecisionName) -> dict[str, PrecisionName]:
    """What the parameters of a run say of it: nothing in float32, since runs of before know no other."""
    return {} if precision == DEFAULT_PRECISION else {PRECISION: precision}


def precision_of_run(run: Mapping[str, Any]) -> PrecisionName:
    """The precision of a run, from its parameters."""
    found: PrecisionName = run["architecture"].get(PRECISION, DEFAULT_PRECISION)
    return found
