"""Whether the values of a quantity keep to its bounds, by a spread that networks share.

Three seeds say little of their own spread, so the two batch sizes of a data set and model share one standard deviation
s with nu degrees of freedom. A quantity holds in a network if the one-sided 95 % confidence limit of its mean keeps to
the bound, at each bound alone, since all must hold. It fails if its mean is beyond the bound by a one-sided t test,
corrected by Holm over all quantities, networks and sides of one claim, since any can fail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from fishertail.paper.claims.claim import Quantity

CONFIDENCE = 0.95
FEWEST_DEGREES = 2  # of freedom, below which there is an effect and no verdict
_ROUNDING = 1e-12  # of a mean: a spread below it is as good as 0
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
NOT_RUN, STOPPED_EARLY = "not run", "stopped early"
OF_THE_PAPER = (256, 16)  # batch sizes


class Scale(NamedTuple):
    """The scale on which mean and spread of a quantity are taken, so that they stay in its range."""

    forward: Callable[[Any], Any]
    back: Callable[[Any], Any]


SCALES = {
    "linear": Scale(lambda values: values, lambda values: values),
    "ratio": Scale(np.log, np.exp),
    "share": Scale(special.logit, special.expit),
}


def scaled(quantity: Quantity, values: Any) -> NDArray[np.float64]:
    """Values on the scale of the quantity; those that are not measured, and not finite there, are left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(SCALES[quantity.scale].forward(np.asarray(values, dtype=np.float64)))
    kept: NDArray[np.float64] = found[np.isfinite(found)]
    return kept


@dataclass(frozen=True)
class Spread:
    """A standard deviation over seeds, and its degrees of freedom nu.

    Below `FEWEST_DEGREES` nothing is decided by it.
    """

    deviation: float
    degrees: int

    @classmethod
    def pooled(cls, groups: Sequence[NDArray[np.float64]]) -> "Spread":
        """s^2 = sum of (y - mean of its network)^2 / nu, nu = sum of (n - 1), over networks with values."""
        squares = sum(float(np.square(group - group.mean()).sum()) for group in groups if len(group))
        degrees = sum(len(group) - 1 for group in groups if len(group))
        deviation = float(np.sqrt(squares / degrees)) if degrees else np.nan
        size = max((float(np.abs(group).max()) for group in groups if len(group)), default=0.0)
        return cls(0.0 if deviation <= _ROUNDING * size else deviation, degrees)

    @property
    def enough(self) -> bool:
        return self.degrees >= FEWEST_DEGREES


@dataclass(frozen=True)
class Judged:
    """A quantity in a network, on its scale.

    Attributes:
        values: (n,) of the seeds.
        spread: shared.
        bounds: of the quantity, on its scale.
        in_every_seed: see `Quantity`.
    """

    values: NDArray[np.float64]
    spread: Spread
    bounds: tuple[float, float]
    in_every_seed: bool = False

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else np.nan

    @property
    def limits(self) -> tuple[float, float]:
        """One-sided 95 % confidence limits of the mean; NaN where the spread is not known."""
        if not (self.spread.enough and len(self.values)) or self.in_every_seed:
            return np.nan, np.nan
        half = stats.t.ppf(CONFIDENCE, self.spread.degrees) * self.spread.deviation / np.sqrt(len(self.values))
        return self.mean - half, self.mean + half

    @property
    def holds(self) -> bool:
        """Whether both limits keep to the bounds, or all seeds do."""
        lower, upper = self.bounds
        if self.in_every_seed:
            return bool(len(self.values)) and bool(((self.values >= lower) & (self.values <= upper)).all())
        low, high = self.limits
        return bool(low >= lower and high <= upper)

    @property
    def beyond(self) -> bool:
        """Whether both limits are beyond a bound: a single uncorrected test would call it a failure."""
        lower, upper = self.bounds
        low, high = self.limits
        return bool(high < lower or low > upper)

    @property
    def sides(self) -> int:
        """How many can be tested: those with a bound, and none where every seed must keep to it."""
        return 0 if self.in_every_seed else int(np.isfinite(self.bounds).sum())

    def p_values(self) -> list[float]:
        """That of each side with a bound: of a mean at least as far beyond it, if the true one were at the bound."""
        if self.in_every_seed or not self.spread.enough or not len(self.values):
            return []
        found = []
        for bound, sign in zip(self.bounds, (1, -1), strict=True):
            if np.isfinite(bound):
                inside = sign * (self.mean - bound)
                if self.spread.deviation == 0:
                    found.append(float(inside >= 0))
                else:
                    t = inside * np.sqrt(len(self.values)) / self.spread.deviation
                    found.append(float(stats.t.cdf(t, self.spread.degrees)))
        return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted by Holm's step-down method for all of them together; at most 1."""
    order = np.argsort(p_values)
    adjusted, largest = np.ones(len(p_values)), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return [float(each) for each in adjusted]


def batch_sizes(metrics: pd.DataFrame) -> dict[tuple[str, str], tuple[int, int]]:
    """The pair that is compared of each data set and model: the paper's, or else the largest and the smallest."""
    found = metrics.groupby(["dataset", "model"], sort=False)["batch_size"].unique()
    pairs: dict[tuple[str, str], tuple[int, int]] = {}
    for key, sizes in zip(found.index, found, strict=True):
        ends = (int(max(sizes)), int(min(sizes)))
        pairs[str(key[0]), str(key[1])] = OF_THE_PAPER if set(OF_THE_PAPER) <= set(sizes) else ends
    return pairs


def in_words(large: int, small: int) -> str:
    """A pair of batch sizes as the column batch_size has it."""
    return f"{large} against {small}"
