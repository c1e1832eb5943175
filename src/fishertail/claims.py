"""The paper's five claims, judged by the results: effects, confidence intervals over the seeds, and verdicts.

A claim says something of a network: a data set, a model, and (but for the third) a batch size. It bounds quantities
that each seed measures once. The 95 % interval of the mean over the seeds decides: inside the bounds the claim holds,
outside it fails, and across a bound, or with a single seed, it is undecided. Runs that have not passed their lowest
validation loss are left out. A claim holds if it does in every network, and fails if it does in any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from fishertail.tables import RUN, minima

CONFIDENCE = 0.95
CHANGE = 1.5  # growth and shrinking at least: noise of 30 % from epoch to epoch is hardly ever taken for more
RISE = 0.01  # of the samples become outliers at least: fewer are no take-off
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
    fraction: float = 0.1  # of the samples, left out in `trimmed`
    reading: str = "distance"  # of outliers

    def passed(self) -> pd.DataFrame:
        """The epoch of lowest validation loss of the runs that have passed it."""
        lowest = minima(self.metrics)
        return lowest[lowest["minimum"] == "reached"]

    def at_minimum(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that are of the epoch of lowest validation loss, of the runs that have passed it."""
        return table.merge(self.passed()[[*RUN, "epoch"]], on=[*RUN, "epoch"])


class Scale(NamedTuple):
    """On which a quantity's mean and interval are taken, so that they stay where the quantity can be."""

    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[float], float]


LINEAR = Scale(lambda values: values, float)
RATIO = Scale(np.log, np.exp)
# the bounds: less than a sample of a million, and 1e-12 of lambda_1
SHARE = Scale(lambda values: special.logit(np.clip(values, 1e-6, 1 - 1e-6)), special.expit)
DECREASE = Scale(lambda percent: np.log(np.maximum(1 - percent / 100, 1e-12)), lambda left: 100 * (1 - np.exp(left)))


@dataclass(frozen=True)
class Quantity:
    """What a claim bounds."""

    column: str
    meaning: str  # with what `Results` says of itself in braces
    lower: float = -np.inf
    upper: float = np.inf
    scale: Scale = LINEAR
    decides: bool = True  # else it stands beside those that do

    @property
    def bound(self) -> str:
        if self.upper == np.inf:
            return f"at least {self.lower:g}"
        return f"{self.lower:g} to {self.upper:g}"

    def judge(self, values: np.ndarray) -> dict:
        """Effect, interval and verdict of the values of the seeds (n,)."""
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = self.scale.forward(values)
        if len(scaled) == 0 or not np.isfinite(scaled).all():
            return {"effect": np.nan, "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
        if len(scaled) == 1:
            return {"effect": values[0], "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(scaled) - 1) * scaled.std(ddof=1) / np.sqrt(len(scaled))
        effect, *ends = (float(self.scale.back(scaled.mean() + step)) for step in (0, -half, half))
        low, high = sorted(ends)
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
    """lambda_1 at its largest over that of the initial, and of the last weights, both of which must be analysed."""
    curves = results.spectrum[results.spectrum["rank"] == 1].merge(results.passed()[RUN], on=RUN)
    last = results.metrics.groupby(RUN)["epoch"].max()
    rows = []
    for run, part in curves.groupby(RUN, sort=False):
        part = part.sort_values("epoch")
        ends = part["epoch"].iloc[[0, -1]].tolist() == [0, last[run]]
        rows.append([*run, *(rise_and_fall(part["eigenvalue"].to_numpy()) if ends else (np.nan, np.nan))])
    return pd.DataFrame(rows, columns=[*RUN, "growth", "shrinking"])


def rise_and_fall(values: np.ndarray) -> tuple[float, float]:
    """The largest median of three neighbours, which noise raises less than the largest value, over first and last."""
    if len(values) < 3:
        return np.nan, np.nan
    largest = np.median([values[:-2], values[1:-1], values[2:]], axis=0).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        return largest / values[0], largest / values[-1]


def measure_batch_sizes(results: Results) -> pd.DataFrame:
    """A network's largest batch size against the smallest, seed by seed, which start from the same weights."""
    first = results.spectrum[results.spectrum["rank"] == 1]
    shown = results.at_minimum(results.ax)[[*RUN, "epoch", "largest", "near_zero_share"]]
    shown = shown.merge(first[[*RUN, "epoch", "eigenvalue"]], on=[*RUN, "epoch"])
    keys = ["dataset", "model", "seed"]
    ends = _batch_sizes(results.metrics)
    pairs = shown.merge(ends[ends["large"] > ends["small"]], on=keys[:2])
    large, small = (pairs[pairs["batch_size"] == pairs[end]].drop(columns=["large", "small"]) for end in _ENDS)
    pairs = large.merge(small, on=keys, suffixes=("_large", "_small"))
    return pairs[keys].assign(
        batch_size=_against(pairs["batch_size_large"], pairs["batch_size_small"]),
        eigenvalue_ratio=pairs["eigenvalue_large"] / pairs["eigenvalue_small"],
        largest_ratio=pairs["largest_large"] / pairs["largest_small"],
        near_zero_difference=pairs["near_zero_share_small"] - pairs["near_zero_share_large"],
    )


_ENDS = ("large", "small")


def _batch_sizes(metrics: pd.DataFrame) -> pd.DataFrame:
    """The largest and the smallest batch size of each data set and model."""
    return metrics.groupby(["dataset", "model"], as_index=False)["batch_size"].agg(large="max", small="min")


def _against(large: pd.Series, small: pd.Series) -> pd.Series:
    return large.astype(str) + " against " + small.astype(str)


def measure_trimming(results: Results) -> pd.DataFrame:
    """How much lambda_1 shrinks without the samples of largest abs(a_x), in per cent."""
    return results.at_minimum(results.trimmed)


def measure_take_off(results: Results) -> pd.DataFrame:
    """How far, when and how late the outliers rise, up to twice the epoch of lowest validation loss."""
    rows = []
    lowest = results.passed().set_index(RUN)["epoch"]
    for run, part in results.outliers.groupby(RUN, sort=False):
        if run in lowest.index:
            part = part.sort_values("epoch")
            shares = (part[f"outliers_{results.reading}"] / part["samples"]).to_numpy()
            rows.append([*run, *take_off(part["epoch"].to_numpy(), shares, max(lowest[run], 1))])
    return pd.DataFrame(rows, columns=[*RUN, "rise", "take_off_ratio", "lateness"])


def take_off(epochs: np.ndarray, shares: np.ndarray, minimum: int) -> tuple[float, float, float]:
    """How the share of outliers rises from the initial weights to its highest by twice the epoch of the minimum.

    Args:
        epochs: (E,), increasing from 0.
        shares: (E,).
        minimum: the epoch of lowest validation loss.

    Returns:
        the rise; the epoch at which half of it is made, over `minimum`; and the part of it that comes after half of
        `minimum`, over that of a steady growth. The last two are NaN without a rise.
    """
    near = epochs <= 2 * minimum
    epochs, shares = epochs[near], shares[near]
    rise = float(shares.max() - shares[0])
    if rise <= 0:
        return rise, np.nan, np.nan
    half_way = epochs[np.argmax(shares >= shares[0] + rise / 2)]
    late = 1 - (np.interp(minimum / 2, epochs, shares) - shares[0]) / rise
    return rise, half_way / minimum, late / (1 - minimum / 2 / epochs[-1])


CLAIMS = (
    Claim(
        1,
        "At least 10 % of the samples have |a_x| < 0.1, while the largest is hundreds to thousands of times that.",
        measure_outlying_ax,
        (
            Quantity("near_zero_share", "share of the samples with |a_x| < {near_zero:g}", lower=0.1, scale=SHARE),
            Quantity("largest_ratio", "largest |a_x| / {near_zero:g}", lower=100, scale=RATIO),
        ),
    ),
    Claim(
        2,
        "lambda_1 first grows, then shrinks.",
        measure_rise_and_fall,
        (
            Quantity("growth", "largest lambda_1 / initial lambda_1", lower=CHANGE, scale=RATIO),
            Quantity("shrinking", "largest lambda_1 / last lambda_1", lower=CHANGE, scale=RATIO),
        ),
    ),
    Claim(
        3,
        "At the lowest validation loss, batch size 256 has the larger lambda_1 and largest |a_x|, "
        "batch size 16 more samples near 0.",
        measure_batch_sizes,
        (
            Quantity("eigenvalue_ratio", "lambda_1, large batch / small", lower=1, scale=RATIO),
            Quantity("largest_ratio", "largest |a_x|, large batch / small", lower=1, scale=RATIO),
            Quantity("near_zero_difference", "share near 0, small batch - large", lower=0),
        ),
    ),
    Claim(
        4,
        "Removing the 10 % of the samples with the largest |a_x| shrinks lambda_1 by 60 to 99.97 %.",
        measure_trimming,
        (
            Quantity(
                "decrease_percent",
                "decrease of lambda_1 without {percent:g} % of the samples (%)",
                lower=60,
                scale=DECREASE,
            ),
            Quantity("decrease_anew_percent", "the same, solved anew (%)", lower=60, scale=DECREASE, decides=False),
        ),
    ),
    Claim(
        5,
        "The number of outliers takes off near the epoch of lowest validation loss.",
        measure_take_off,
        (
            Quantity("rise", "rise of the share of outliers", lower=RISE),
            Quantity("take_off_ratio", "epoch of half the rise / that of lowest validation loss", 0.5, 2, RATIO),
            Quantity("lateness", "part of the rise that is late / that of a steady growth", lower=1.1),
        ),
    ),
)


def effects_table(results: Results) -> pd.DataFrame:
    """A row a claim, network and quantity.

    Returns:
        columns claim, dataset, model, batch_size, quantity, claimed, decides (else it has no vote), seeds, effect, low,
        high (95 % interval), verdict, note (why it is undecided).
    """
    settings = {"near_zero": results.near_zero, "percent": 100 * results.fraction}
    rows = []
    for claim in CLAIMS:
        measured = claim.measure(results).astype({"batch_size": str})
        for network in _networks(claim, results.metrics):
            part = measured[(measured[NETWORK] == list(network)).all(axis=1)]
            for quantity in claim.quantities:
                judged = quantity.judge(part[quantity.column].to_numpy())
                row = {"claim": claim.number, **dict(zip(NETWORK, network, strict=True))}
                row |= {"quantity": quantity.meaning.format(**settings), "claimed": quantity.bound}
                row |= {"decides": quantity.decides, "seeds": len(part), **judged}
                rows.append(row | {"note": _why_undecided(judged, len(part), network)})
    return pd.DataFrame(rows)


def _networks(claim: Claim, metrics: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Those that a claim speaks of; of batch sizes, the pairs that it compares."""
    if claim.measure is measure_batch_sizes:
        ends = _batch_sizes(metrics)
        networks = ends.assign(batch_size=_against(ends["large"], ends["small"]))
    else:
        networks = metrics[NETWORK].drop_duplicates().astype({"batch_size": str})
    return list(networks[NETWORK].itertuples(index=False, name=None))


def _why_undecided(judged: dict, seeds: int, network: tuple[str, str, str]) -> str:
    if judged["verdict"] != UNDECIDED:
        return ""
    large, against, small = network[-1].partition(" against ")
    if against and large == small:
        return "one batch size"
    if seeds == 0:
        return "no seed has passed its lowest validation loss" + (" at both batch sizes" if against else "")
    if np.isnan(judged["effect"]):
        return "not measurable"
    return "one seed" if seeds == 1 else "the interval reaches across the bound"


def verdicts_table(effects: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: columns claim, statement, verdict, holds, fails, undecided (networks), finding (a sentence)."""
    rows = []
    for claim in CLAIMS:
        part = effects[effects["claim"] == claim.number]
        networks = part[part["decides"]].groupby(NETWORK, sort=False)["verdict"].agg(_joint)
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
            claimed = f" ({part['claimed'].iloc[0]} claimed)" if part["decides"].all() else ""
            ranges.append(f"{quantity}: {_range(found)}{claimed}")
    failing = [f"{d}-{m}/{b}" for (d, m, b), verdict in networks.items() if verdict == FAILS]
    where = f" (fails: {', '.join(failing)})" if failing else ""
    return f"{', '.join(counts)} of {len(networks)} networks{where}. {'; '.join(ranges) or 'Nothing measured'}."


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"
