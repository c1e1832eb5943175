"""The checkpoints by which claims are judged, whatever else was measured.

Steps 0, 1, 2, 4, ... of the first two epochs; the ends of epochs round(2^(k/2)); E*, twice E*, and the last; all up to
twice E*. They are fixed, so that no verdict depends on how densely a run was measured; claim 7 alone is judged by the
stopping rules, which see the end of every epoch with outliers counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from fishertail.statistics.minimum import Minimum, lowest_validation_loss
from fishertail.training.schedule import geometric, octaves

Key = tuple[Any, ...]  # dataset, model, batch_size, seed


@dataclass(frozen=True)
class Time:
    """The time of a run.

    Attributes:
        per_epoch: SGD steps.
        minimum: E*, and whether the run has passed it.
    """

    per_epoch: int
    minimum: Minimum

    @property
    def end(self) -> int:
        """The epoch up to which everything is taken: twice E*, or the last."""
        return min(self.minimum.last_epoch, 2 * self.minimum.epoch)

    def points(self, first: int = 0) -> list[int]:
        """SGD steps, ascending.

        Args:
            first: the epoch from which on.
        """
        epochs = {0, *geometric(2, self.end), self.minimum.epoch, self.end}
        ends = {epoch * self.per_epoch for epoch in epochs if first <= epoch <= self.end}
        inside = {step for step in octaves(self.per_epoch) if first * self.per_epoch <= step}
        return sorted(ends | {step for step in inside if step <= self.end * self.per_epoch})


def times(results: Results) -> dict[Key, Time]:
    """The time of each run that was trained for an epoch at least."""
    found = {}
    for key, part in results["metrics"].groupby(RUN, sort=False):
        trained = part[part["epoch"] >= 1]
        if len(trained):
            row = trained.iloc[0]
            found[key] = Time(round(row["step"] / row["epoch"]), lowest_validation_loss(part))
    return found


class Rows:
    """A table over runs whose rows, one for each step, are looked up by run and step."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._runs = {key: part.set_index("step") for key, part in table.groupby(RUN, sort=False)}

    def at(self, run: Key, steps: list[int]) -> pd.DataFrame | None:
        """The rows at these steps, in their order; None where one is missing."""
        part = self._runs.get(run)
        if part is None or not set(steps) <= set(part.index):
            return None
        return part.loc[steps]

    def value(self, run: Key, step: int, column: str) -> float:
        """One value; NaN where there is none."""
        rows = self.at(run, [step])
        return float("nan") if rows is None else float(rows[column].iloc[0])


def measured(results: Results, measure: Callable[[Key, Time], Mapping[str, Any]]) -> pd.DataFrame:
    """What is measured of each run that has passed its lowest validation loss.

    Args:
        measure: called with the run and its time; returns the quantities by column.
    """
    passed = {run: time for run, time in times(results).items() if time.minimum.passed}
    rows = [dict(zip(RUN, run, strict=True)) | dict(measure(run, time)) for run, time in passed.items()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=RUN)


def clipped(shares: Any, samples: Any) -> Any:
    """Shares of so many samples, kept off 0 and 1 by half a sample, so that their logit is finite."""
    return np.clip(shares, 0.5 / samples, 1 - 0.5 / samples)


def odds_ratio(share: float, other: float) -> float:
    """The ratio of the odds of two shares, whose logarithm is the difference of their logits."""
    return float(np.exp(special.logit(share) - special.logit(other)))
