"""What the scores of each sample at several checkpoints come to: means, and how long it stays an outlier."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fishertail.statistics.outliers import Reading, outliers

SCORES = {
    "grand": "norms",
    "el2n": "sample_scores",
    "loss": "norms",
    "a_x": "projections",
}  # and the tables they are of


def by_step(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """(checkpoints, N) a column of a table of samples, one row per step in ascending order."""
    return table.pivot(index="step", columns="sample", values=column).astype(np.float64)


def score(name: str, tables: Mapping[str, pd.DataFrame], layer: str) -> pd.DataFrame:
    """(checkpoints, N) a score of each sample at the checkpoints of its table.

    Args:
        name: one of `SCORES`: the gradient norm (grand), EL2N, the loss, or abs(a_x).
        tables: norms, projections and sample_scores, with the columns step and sample.
        layer: of gradient norms and a_x.
    """
    column = {"grand": layer, "a_x": layer}.get(name, name)
    return by_step(tables[SCORES[name]], column).abs()


def early_steps(steps: Sequence[int], epochs: Sequence[float], share: float) -> list[int]:
    """The steps of the first `share` of training.

    Checkpoints inside the first epoch are left out where there are later ones, as is the network before training,
    where GraNd does not find what it finds later (Kirsch 2023, arXiv 2303.14753). There is always one step.

    Args:
        steps: ascending.
        epochs: of these; NaN where steps per epoch are not known.
    """
    trained = [step for step in steps if step > 0] or list(steps)
    usual = [step for step, epoch in zip(steps, epochs, strict=True) if epoch >= 1] or trained
    return [step for step in usual if step <= share * steps[-1]] or usual[:1]


def mean_score(scores: pd.DataFrame, steps: Sequence[int]) -> "pd.Series[float]":
    """(N,) the mean over the checkpoints among `steps`; over those that there are if none is among them."""
    chosen = scores[scores.index.isin(steps)]
    return (chosen if len(chosen) else scores).mean()


def outlier_history(norms: pd.DataFrame, threshold: float, reading: Reading) -> pd.DataFrame:
    """When each sample is an outlier: one row per sample, with these columns.

    outlier_checkpoints and outlier_share: at how many checkpoints, and at which share of them. first_outlier: the step
    of the first; -1 for never. longest_stretch: the most SGD steps between two checkpoints at which, and at all those
    between which, it is an outlier; 0 if it never is at two in a row.

    Args:
        norms: (checkpoints, N) gradient norms by step, ascending.
        threshold, reading: see `outliers`.
    """
    masks = np.stack([outliers(row, threshold, reading).mask for row in norms.to_numpy()])
    steps = norms.index.to_numpy()
    return pd.DataFrame(
        {
            "outlier_checkpoints": masks.sum(axis=0),
            "outlier_share": masks.mean(axis=0),
            "first_outlier": np.where(masks.any(axis=0), steps[masks.argmax(axis=0)], -1),
            "longest_stretch": longest_stretch(masks, steps),
        },
        index=norms.columns,
    )


def longest_stretch(masks: NDArray[np.bool_], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the longest time, in steps, over which a column of `masks` (checkpoints, N) stays true."""
    start = np.zeros(masks.shape[1], dtype=np.int64)
    longest, before = np.zeros_like(start), np.zeros(masks.shape[1], dtype=bool)
    for row, step in zip(masks, steps, strict=True):
        start = np.where(row & ~before, step, start)
        longest = np.maximum(longest, np.where(row, step - start, 0))
        before = row
    return longest


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """(N,) rows by sample: the mean of each score over the runs of one network, data set and batch size."""
    return table.groupby("sample")[list(SCORES)].mean()


def steps_of_an_epoch(metrics: pd.DataFrame) -> float:
    """SGD steps per epoch; 1 where a run has no epoch."""
    last = metrics.sort_values("step").iloc[-1]
    return float(last["step"] / last["epoch"]) if last["epoch"] > 0 else 1.0
