"""The paper's five claims, judged by the results: effects, confidence intervals over the seeds, and verdicts.

A claim says something of a network: a data set, a model, and (but for the third) a batch size. It bounds quantities
that each seed measures once. The 95 % interval of the mean over the seeds decides: inside the bounds the claim holds,
outside it fails, and across a bound, or with a single seed, it is undecided. Runs that have not passed their lowest
validation loss are left out. A claim holds if it does in every network, and fails if it does in any.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fishertail.tables import RUN, minima

CONFIDENCE = 0.95
CHANGE = 1.1  # growth and shrinking are by a tenth at least: less is the noise of SGD from epoch to epoch
NETWORK = ["dataset", "model", "batch_size"]
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


@dataclass(frozen=True)
class Results:
    """Tables over all runs (`fishertail.tables.collect`)."""

    metrics: pd.DataFrame  # by epoch
    spectrum: pd.DataFrame  # of the figure layer, at the analysed epochs and the lowest validation loss
    ax: pd.DataFrame  # statistics of a_x in the figure layer, at the same epochs
    trimmed: pd.DataFrame  # of the figure layer, at the lowest validation loss
    outliers: pd.DataFrame  # of the network, by epoch
    near_zero: float = 0.1  # what counts as near 0 in `ax`
    reading: str = "distance"  # of outliers

    def passed(self) -> pd.DataFrame:
        """The epoch of lowest validation loss of the runs that have passed it."""
        lowest = minima(self.metrics)
        return lowest[lowest["minimum"] == "reached"]

    def at_minimum(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.merge(self.passed()[[*RUN, "epoch"]], on=[*RUN, "epoch"])


@dataclass(frozen=True)
class Quantity:
    """What a claim bounds. Intervals of quantities that are ratios are taken of their logarithms."""

    column: str
    meaning: str
    lower: float = -np.inf
    upper: float = np.inf
    ratio: bool = False

    @property
    def bound(self) -> str:
        if self.upper == np.inf:
            return f"at least {self.lower:g}"
        return f"{self.lower:g} to {self.upper:g}"

    def judge(self, values: np.ndarray) -> dict:
        """Effect, interval and verdict of the values of the seeds (n,)."""
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.log(values) if self.ratio else values
        back = np.exp if self.ratio else float
        if len(scaled) == 0 or not np.isfinite(scaled).all():
            return {"effect": np.nan, "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
        if len(scaled) == 1:
            return {"effect": values[0], "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(scaled) - 1) * scaled.std(ddof=1) / np.sqrt(len(scaled))
        effect, low, high = (float(back(scaled.mean() + step)) for step in (0, -half, half))
        if self.lower <= low and high <= self.upper:
            verdict = HOLDS
        else:
            verdict = FAILS if high < self.lower or low > self.upper else UNDECIDED
        return {"effect": effect, "low": low, "high": high, "verdict": verdict}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper; `measure` gives the quantities of each run, or pair of runs."""

    number: int
    statement: str
    measure: Callable[[Results], pd.DataFrame]  # columns of NETWORK, seed, and of the quantities
    quantities: tuple[Quantity, ...]


def measure_outlying_ax(results: Results) -> pd.DataFrame:
    """The share of samples near 0, and the largest in units of what is near 0."""
    shown = results.at_minimum(results.ax)
    return shown.assign(largest_ratio=shown["largest"] / results.near_zero)


def measure_rise_and_fall(results: Results) -> pd.DataFrame:
    """lambda_1 at its largest over that of the initial, and of the last weights."""
    curves = results.spectrum[results.spectrum["rank"] == 1].merge(results.passed()[RUN], on=RUN)
    rows = []
    for run, part in curves.groupby(RUN, sort=False):
        values = part.sort_values("epoch")["eigenvalue"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            rows.append([*run, values.max() / values[0], values.max() / values[-1]])
    return pd.DataFrame(rows, columns=[*RUN, "growth", "shrinking"])


def measure_batch_sizes(results: Results) -> pd.DataFrame:
    """The largest batch size of the grid against the smallest, seed by seed, which start from the same weights."""
    sizes = sorted(results.metrics["batch_size"].unique())
    first = results.spectrum[results.spectrum["rank"] == 1]
    shown = results.at_minimum(results.ax)[[*RUN, "epoch", "largest", "near_zero_share"]]
    shown = shown.merge(first[[*RUN, "epoch", "eigenvalue"]], on=[*RUN, "epoch"])
    keys = ["dataset", "model", "seed"]
    small, large = (shown[shown["batch_size"] == size].drop(columns="batch_size") for size in (sizes[0], sizes[-1]))
    pairs = large.merge(small, on=keys, suffixes=("_large", "_small"))
    if len(sizes) < 2:
        pairs = pairs.iloc[:0]
    return pairs[keys].assign(
        batch_size=f"{sizes[-1]} against {sizes[0]}",
        eigenvalue_ratio=pairs["eigenvalue_large"] / pairs["eigenvalue_small"],
        largest_ratio=pairs["largest_large"] / pairs["largest_small"],
        near_zero_difference=pairs["near_zero_share_small"] - pairs["near_zero_share_large"],
    )


def measure_trimming(results: Results) -> pd.DataFrame:
    """How much lambda_1 shrinks without the samples of largest abs(a_x), in per cent."""
    return results.at_minimum(results.trimmed)


def measure_take_off(results: Results) -> pd.DataFrame:
    """The epoch at which the outliers take off, over that of the lowest validation loss."""
    rows = []
    lowest = results.passed().set_index(RUN)["epoch"]
    for run, part in results.outliers.groupby(RUN, sort=False):
        if run in lowest.index:
            epoch = take_off(part["epoch"].to_numpy(), part[f"outliers_{results.reading}"].to_numpy())
            rows.append([*run, epoch / max(lowest[run], 1)])
    return pd.DataFrame(rows, columns=[*RUN, "take_off_ratio"])


def take_off(epochs: np.ndarray, counts: np.ndarray) -> float:
    """The first epoch at which a count has made half of its rise from the first to the highest; NaN without a rise."""
    order = np.argsort(epochs)
    epochs, counts = epochs[order], counts[order].astype(np.float64)
    if counts.max() <= counts[0]:
        return np.nan
    return float(epochs[np.argmax(counts >= (counts[0] + counts.max()) / 2)])


CLAIMS = (
    Claim(
        1,
        "At least 10 % of the samples have |a_x| < 0.1, while the largest is hundreds to thousands of times that.",
        measure_outlying_ax,
        (
            Quantity("near_zero_share", "share of the samples with |a_x| < 0.1", lower=0.1),
            Quantity("largest_ratio", "largest |a_x| / 0.1", lower=100, ratio=True),
        ),
    ),
    Claim(
        2,
        "lambda_1 first grows, then shrinks.",
        measure_rise_and_fall,
        (
            Quantity("growth", "largest lambda_1 / initial lambda_1", lower=CHANGE, ratio=True),
            Quantity("shrinking", "largest lambda_1 / last lambda_1", lower=CHANGE, ratio=True),
        ),
    ),
    Claim(
        3,
        "At the lowest validation loss, batch size 256 has the larger lambda_1 and largest |a_x|, "
        "batch size 16 more samples near 0.",
        measure_batch_sizes,
        (
            Quantity("eigenvalue_ratio", "lambda_1, large batch / small", lower=1, ratio=True),
            Quantity("largest_ratio", "largest |a_x|, large batch / small", lower=1, ratio=True),
            Quantity("near_zero_difference", "share near 0, small batch - large", lower=0),
        ),
    ),
    Claim(
        4,
        "Removing the 10 % of the samples with the largest |a_x| shrinks lambda_1 by 60 to 99.97 %.",
        measure_trimming,
        (
            Quantity("decrease_percent", "decrease of lambda_1 (%), V_1 kept", lower=60),
            Quantity("decrease_anew_percent", "decrease of lambda_1 (%), solved anew", lower=60),
        ),
    ),
    Claim(
        5,
        "The number of outliers takes off near the epoch of lowest validation loss.",
        measure_take_off,
        (Quantity("take_off_ratio", "epoch of take-off / epoch of lowest validation loss", 0.5, 2, ratio=True),),
    ),
)


def effects_table(results: Results) -> pd.DataFrame:
    """A row a claim, network and quantity.

    Returns:
        columns claim, dataset, model, batch_size, quantity, claimed, seeds, effect, low, high (95 % interval), verdict,
        note (why it is undecided).
    """
    every = results.metrics[NETWORK].drop_duplicates()
    rows = []
    for claim in CLAIMS:
        measured = claim.measure(results).astype({"batch_size": str})
        wanted = every.astype({"batch_size": str})
        if claim.measure is measure_batch_sizes:
            sizes = sorted(every["batch_size"].unique())
            wanted = wanted[["dataset", "model"]].drop_duplicates()
            wanted = wanted.assign(batch_size=f"{sizes[-1]} against {sizes[0]}")
        for network in wanted[NETWORK].itertuples(index=False, name=None):
            part = measured[(measured[NETWORK] == list(network)).all(axis=1)]
            for quantity in claim.quantities:
                judged = quantity.judge(part[quantity.column].to_numpy())
                row = {"claim": claim.number, **dict(zip(NETWORK, network, strict=True))}
                row |= {"quantity": quantity.meaning, "claimed": quantity.bound, "seeds": len(part), **judged}
                rows.append(row | {"note": _why_undecided(judged, len(part))})
    return pd.DataFrame(rows)


def _why_undecided(judged: dict, seeds: int) -> str:
    if judged["verdict"] != UNDECIDED:
        return ""
    if seeds == 0:
        return "no run has passed its lowest validation loss"
    if np.isnan(judged["effect"]):
        return "not measurable"
    return "one seed" if seeds == 1 else "the interval reaches across the bound"


def verdicts_table(effects: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: columns claim, statement, verdict, holds, fails, undecided (networks), finding (a sentence)."""
    rows = []
    for claim in CLAIMS:
        part = effects[effects["claim"] == claim.number]
        networks = part.groupby(NETWORK, sort=False)["verdict"].agg(_joint)
        counts = {verdict: int((networks == verdict).sum()) for verdict in (HOLDS, FAILS, UNDECIDED)}
        rows.append(
            {
                "claim": claim.number,
                "statement": claim.statement,
                "verdict": _joint(networks),
                **counts,
                "finding": _finding(part, networks),
            }
        )
    return pd.DataFrame(rows)


def _joint(verdicts: pd.Series) -> str:
    """Of all parts: one that fails decides, one that is undecided leaves open."""
    if (verdicts == FAILS).any():
        return FAILS
    return HOLDS if len(verdicts) and (verdicts == HOLDS).all() else UNDECIDED


def _finding(effects: pd.DataFrame, networks: pd.Series) -> str:
    counts = [f"{verdict} in {(networks == verdict).sum()}" for verdict in (HOLDS, FAILS, UNDECIDED)]
    ranges = []
    for quantity, part in effects.groupby("quantity", sort=False):
        found = part["effect"].dropna()
        if len(found):
            ranges.append(f"{quantity}: {_range(found)} ({part['claimed'].iloc[0]} claimed)")
    failing = [f"{d}-{m}/{b}" for (d, m, b), verdict in networks.items() if verdict == FAILS]
    where = f" (fails: {', '.join(failing)})" if failing else ""
    return f"{', '.join(counts)} of {len(networks)} networks{where}. {'; '.join(ranges) or 'Nothing measured'}."


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"
