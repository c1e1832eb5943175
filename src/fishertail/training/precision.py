"""The precision in which a network is trained."""

from collections.abc import Mapping
from typing import Any, Literal

PrecisionName = Literal["float32", "bfloat16"]
DEFAULT_PRECISION: PrecisionName = "float32"
PRECISION = "precision"  # the key beside the options of the network


def named(precision: PrecisionName) -> dict[str, PrecisionName]:
    """The entry among a run's parameters: none for float32, so that runs kept before there was a choice still fit."""
    return {} if precision == DEFAULT_PRECISION else {PRECISION: precision}


def precision_of_run(run: Mapping[str, Any]) -> PrecisionName:
    """The precision of a run, from its parameters."""
    found: PrecisionName = run["architecture"].get(PRECISION, DEFAULT_PRECISION)
    return found
