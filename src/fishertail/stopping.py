"""When generalization ends, told from training data alone: the share of outliers passes a threshold.

The paper's conclusion made usable. `OutlierStop` goes into a training loop. `evaluate` says how well it does: on each
run of a grid with the threshold fitted on the others, beside rules that need no gradients.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fishertail.mad import outliers
from fishertail.tables import RUN, minima

RULES = ("outliers", "training loss", "last epoch")
LEFT_OUT = {"run": RUN, "network": ["dataset", "model"]}  # what the threshold does not see of the tested run


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
        share: of the samples that are outliers, from which on it says so. There is no default: how far a share found on
            one data set serves another is what `evaluate` measures.
        threshold: an outlier's distance from the median, in units of MAD.
    """

    share: float
    threshold: float = 10

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share: a number above 0, at most 1 expected, found {self.share}")

    def __call__(self, norms: np.ndarray) -> bool:
        """norms: (N,) L2 norms of the gradients of all training samples."""
        return bool(outliers(norms, self.threshold).mask.mean() >= self.share)


def evaluate(metrics: pd.DataFrame, counts: pd.DataFrame, reading: str = "distance") -> pd.DataFrame:
    """How near each rule comes to the epoch of lowest validation loss, on runs that its threshold was not fitted on.

    The threshold of a rule is that of the smallest mean error over the other runs; the error of an estimated epoch is
    abs(log2(estimate / true)). Runs that have not passed their lowest validation loss are left out.

    Args:
        metrics: of all runs and epochs.
        counts: outliers of the network of all runs and epochs (`fishertail.mad.outlier_table`).
        reading: of outliers.

    Returns:
        columns left_out ("run", or "network": all runs of the same data set and model), rule, those of the run,
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


def summary(evaluation: pd.DataFrame) -> pd.DataFrame:
    """A row a rule and what was left out: runs, mean_error, within_factor_2 (share of runs), mean_accuracy_cost."""
    grouped = evaluation.groupby(["left_out", "rule"], sort=False)
    return grouped.agg(
        runs=("error", "size"),
        mean_error=("error", "mean"),
        within_factor_2=("error", lambda errors: (errors <= 1).mean()),
        mean_accuracy_cost=("accuracy_cost", "mean"),
    ).reset_index()


def finding(table: pd.DataFrame) -> str:
    """What `summary` says, in a sentence."""
    shown = table[table["left_out"] == "network"]
    if not len(shown):
        shown = table
    if not len(shown):
        return "Not evaluated: it takes two runs that have passed their lowest validation loss."
    errors = shown.set_index("rule")["mean_error"]
    ours, best = errors["outliers"], errors.drop("outliers").idxmin()
    verdict = "works better than" if ours < errors[best] else "does not work better than"
    return (
        f"With its threshold from other {'networks' if shown is not table else 'runs'}, counting outliers {verdict} "
        f"“{best}”: it misses the epoch of lowest validation loss by a factor of {2**ours:.2f} in the mean, "
        f"that by {2 ** errors[best]:.2f}."
    )


@dataclass(frozen=True)
class _Curve:
    run: dict
    epochs: np.ndarray  # (E,) increasing
    signals: dict[str, np.ndarray]  # rule -> (E,), which rises through its threshold
    accuracy: np.ndarray
    true_epoch: int

    def first(self, rule: str, threshold: float) -> int:
        """The first epoch, after the initial weights, from the threshold on; else the last."""
        passed = (self.signals[rule] >= threshold) & (self.epochs > 0)
        return int(self.epochs[np.argmax(passed)] if passed.any() else self.epochs[-1])

    def error(self, epoch: int) -> float:
        return abs(float(np.log2(max(epoch, 1) / max(self.true_epoch, 1))))

    def accuracy_at(self, epoch: int) -> float:
        return float(self.accuracy[self.epochs == epoch][0])


def _curves(metrics: pd.DataFrame, counts: pd.DataFrame, reading: str) -> Iterator[_Curve]:
    lowest = minima(metrics)
    lowest = lowest[lowest["minimum"] == "reached"].set_index(RUN)["epoch"]
    joined = metrics.merge(counts, on=[*RUN, "epoch"]).sort_values("epoch")
    for run, part in joined.groupby(RUN, sort=False):
        if run in lowest.index:
            shares = (part[f"outliers_{reading}"] / part["samples"]).to_numpy()
            signals = {"outliers": shares, "training loss": -part["train_loss"].to_numpy()}
            signals["last epoch"] = np.full(len(part), -np.inf)
            accuracy = part["validation_accuracy"].to_numpy()
            named = dict(zip(RUN, run, strict=True))
            yield _Curve(named, part["epoch"].to_numpy(), signals, accuracy, int(lowest[run]))


def _fit(rule: str, curves: list[_Curve]) -> float:
    """The threshold of smallest mean error, among those at which an estimate changes; of equals the lowest."""
    if rule == "last epoch":
        return np.inf
    candidates = np.unique(np.concatenate([curve.signals[rule][curve.epochs > 0] for curve in curves]))
    errors = [np.mean([curve.error(curve.first(rule, c)) for curve in curves]) for c in candidates]
    return float(candidates[int(np.argmin(errors))])
