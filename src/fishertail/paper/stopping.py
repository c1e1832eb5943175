"""When generalization ends, estimated from training data alone: the share of outliers passes a threshold.

This is the paper's conclusion, made usable. `OutlierStop` goes into a training loop. `evaluate` measures how well it
works: on each run of a grid, with the threshold fitted on the others, and beside rules that need no gradients.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fishertail.results.schema import RUN
from fishertail.statistics.minimum import lowest_validation_loss
from fishertail.statistics.outliers import Reading, outliers

TRAINING_LOSS, LAST_EPOCH = "training loss", "last epoch"
RULES = ("outliers", TRAINING_LOSS, LAST_EPOCH)
ARCHITECTURE = "data set and model"
LEFT_OUT = {"run": RUN, ARCHITECTURE: ["dataset", "model"]}  # what the threshold does not see of the tested run
CONFIDENCE = 0.95


@dataclass(frozen=True)
class OutlierStop:
    """Whether generalization has ended: call it after each epoch with the gradient norms of all training samples.

    ```python
    stop = fishertail.OutlierStop(share=0.2)
    for epoch in range(100):
        train_one_epoch(model)
        if stop(fishertail.gradient_norms(model, images, labels).network):
            break
    ```

    Attributes:
        share: the share of outliers at which generalization counts as ended. There is no default, since a share that
            suits one data set does not suit another; the workflow fits one to the runs of a grid, and measures how
            well it serves the others (docs/concepts.md, stopping rules).
        threshold: an outlier's distance from the median, in units of MAD.
        reading: see `fishertail.outliers`; a share is valid for the reading it was found with.
    """

    share: float
    threshold: float = 10
    reading: Reading = "distance"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share: a number above 0, at most 1 expected, found {self.share}")

    def __call__(self, norms: np.ndarray) -> bool:
        """norms: (N,) L2 norms of the gradients of all training samples."""
        return bool(outliers(norms, self.threshold, self.reading).mask.mean() >= self.share)


def evaluate(metrics: pd.DataFrame, counts: pd.DataFrame, reading: str = "distance") -> pd.DataFrame:
    """Rules compared by their distance from the validation-loss minimum, on runs that were not fitted.

    The threshold of a rule is that of the smallest mean error over the other runs; the error of an estimated epoch is
    abs(log2(estimate / true)). Runs that have not passed their lowest validation loss are left out.

    Args:
        metrics: of all runs and epochs.
        counts: outliers of the network of all runs and epochs (the table `outliers`).
        reading: see `fishertail.outliers`.

    Returns:
        columns left_out ("run", or "data set and model": all runs of the same ones), rule, those of the run,
        threshold, epoch (the estimate), true_epoch, error, accuracy_cost (percentage points of validation accuracy
        that are lost by stopping there instead of at the true epoch; negative where it is higher).
    """
    curves = list(_curves(metrics, counts, reading))
    rows = []
    for left_out, keys in LEFT_OUT.items():
        for tested in curves:
            others = [curve for curve in curves if any(curve.run[key] != tested.run[key] for key in keys)]
            for rule in RULES if others else ():
                threshold = _fit(rule, others)
                estimate = tested.first(rule, threshold)
                rows.append(
                    {"left_out": left_out, "rule": rule, **tested.run, "threshold": threshold, "epoch": estimate}
                    | {"true_epoch": tested.true_epoch, "error": tested.error(estimate)}
                    | {"accuracy_cost": 100 * (tested.accuracy_at(tested.true_epoch) - tested.accuracy_at(estimate))}
                )
    columns = ["threshold", "epoch", "true_epoch", "error", "accuracy_cost"]
    return pd.DataFrame(rows, columns=["left_out", "rule", *RUN, *columns])


def thresholds(metrics: pd.DataFrame, counts: pd.DataFrame, reading: str = "distance") -> dict[str, float]:
    """The threshold of smallest mean error over all runs, of each rule that has one: the one for new runs.

    Args:
        metrics, counts, reading: see `evaluate`.
    """
    curves = list(_curves(metrics, counts, reading))
    return {rule: _fit(rule, curves) for rule in RULES if rule != LAST_EPOCH} if curves else {}


def summary(evaluation: pd.DataFrame, fitted: Mapping[str, float]) -> pd.DataFrame:
    """One row for each rule and what was left out.

    Args:
        evaluation: of `evaluate`.
        fitted: of `thresholds`.

    Returns:
        columns left_out, rule, threshold (fitted on all runs; of outliers their share), runs, mean_error,
        within_factor_2 (share of runs), mean_accuracy_cost, and difference, low, high: the error less that of counting
        outliers, run by run, averaged by network (data set, model and batch size), whose seeds are alike, and then over
        the networks, with the 95 % interval (NaN for a single one).
    """
    rows = []
    for (left_out, rule), part in evaluation.groupby(["left_out", "rule"], sort=False):
        ours = evaluation[(evaluation["left_out"] == left_out) & (evaluation["rule"] == "outliers")]
        paired = part[[*RUN, "error"]].merge(ours[[*RUN, "error"]], on=RUN, suffixes=("", "_ours"))
        paired["difference"] = paired["error"] - paired["error_ours"]
        differences = paired.groupby(RUN[:3])["difference"].mean().to_numpy()
        half = np.nan
        if len(differences) > 1:
            half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * stats.sem(differences)
        row = {"left_out": left_out, "rule": rule, "threshold": fitted.get(str(rule), np.nan), "runs": len(part)}
        row |= {"mean_error": part["error"].mean(), "within_factor_2": (part["error"] <= 1).mean()}
        row |= {"mean_accuracy_cost": part["accuracy_cost"].mean(), "difference": differences.mean()}
        rows.append(row | {"low": differences.mean() - half, "high": differences.mean() + half})
    columns = ["left_out", "rule", "threshold", "runs", "mean_error", "within_factor_2", "mean_accuracy_cost"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "low", "high"])


def finding(table: pd.DataFrame) -> str:
    """What `summary` says, in a sentence."""
    shown = table[table["left_out"] == ARCHITECTURE]
    others = "other data sets and models" if len(shown) else "other runs"
    shown = shown if len(shown) else table
    if not len(shown):
        return "Not evaluated: it takes two runs that have passed their lowest validation loss."
    rules = shown.set_index("rule")
    ours, best = rules["mean_error"]["outliers"], str(rules.drop("outliers")["mean_error"].idxmin())
    verdict = "cannot be distinguished from"
    if rules["low"][best] > 0 or rules["high"][best] < 0:
        verdict = "works better than" if rules["low"][best] > 0 else "works worse than"
    return (
        f"Over {rules['runs'][best]} runs, with the threshold from {others}, counting outliers {verdict} “{best}”: "
        f"it misses the epoch of lowest validation loss by a factor of {2**ours:.2f} on average, that rule by "
        f"{2 ** rules['mean_error'][best]:.2f}."
    )


@dataclass(frozen=True)
class _Curve:
    run: dict[str, Any]
    epochs: np.ndarray  # (E,) increasing
    signals: dict[str, np.ndarray]  # rule -> (E,), which rises through its threshold, or falls if it is a loss
    accuracy: np.ndarray
    true_epoch: int

    def first(self, rule: str, threshold: float) -> int:
        """The first epoch, after the initial weights, from the threshold on; else the last."""
        signal = self.signals[rule]
        passed = (signal <= threshold if rule == TRAINING_LOSS else signal >= threshold) & (self.epochs > 0)
        return int(self.epochs[np.argmax(passed)] if passed.any() else self.epochs[-1])

    def error(self, epoch: int) -> float:
        return abs(float(np.log2(max(epoch, 1) / max(self.true_epoch, 1))))

    def accuracy_at(self, epoch: int) -> float:
        return float(self.accuracy[self.epochs == epoch][0])


def _curves(metrics: pd.DataFrame, counts: pd.DataFrame, reading: str) -> Iterator[_Curve]:
    joined = metrics.merge(counts.drop(columns="epoch"), on=[*RUN, "step"]).sort_values("step")
    lowest = {run: lowest_validation_loss(part) for run, part in metrics.groupby(RUN, sort=False)}
    for run, part in joined[joined["epoch"] % 1 == 0].groupby(RUN, sort=False):  # rules stop at ends of epochs
        if lowest[run].passed and lowest[run].step in set(part["step"]):
            shares = (part[f"outliers_{reading}"] / part["samples"]).to_numpy()
            signals = {"outliers": shares, TRAINING_LOSS: part["train_loss"].to_numpy()}
            signals[LAST_EPOCH] = np.full(len(part), -np.inf)
            accuracy = part["validation_accuracy"].to_numpy()
            named = dict(zip(RUN, run, strict=True))
            yield _Curve(named, part["epoch"].to_numpy(), signals, accuracy, lowest[run].epoch)


def _fit(rule: str, curves: list[_Curve]) -> float:
    """The threshold of smallest mean error, of those at which an estimate changes; of equals what is passed first."""
    if rule == LAST_EPOCH:
        return np.inf
    candidates = np.unique(np.concatenate([curve.signals[rule][curve.epochs > 0] for curve in curves]))
    if rule == TRAINING_LOSS:
        candidates = candidates[::-1]
    errors = [np.mean([curve.error(curve.first(rule, c)) for curve in curves]) for c in candidates]
    return float(candidates[int(np.argmin(errors))])
