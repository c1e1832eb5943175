"""Effects, confidence intervals over the seeds, and verdicts.

A claim says something of a network: a data set, a model, and (but for those that compare them) a batch size. It bounds
quantities that each seed measures once. The 95 % interval of the mean over the seeds decides: inside the bounds the
claim holds, outside it fails, and across a bound, or with a single seed, it is undecided. Runs that have not passed
their lowest validation loss are left out. A claim holds if it does in every network, and fails if it does in any.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from fishertail.paper.claims.claim import Claim, Quantity, claims
from fishertail.results.exhibits import Results

CONFIDENCE = 0.95
NETWORK = ["dataset", "model", "batch_size"]
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


class Scale(NamedTuple):
    """The scale on which mean and interval of a quantity are taken, so that they stay in its range."""

    forward: Callable[[Any], Any]
    back: Callable[[float], float]


# the bounds: less than a sample of a million, and 1e-12 of lambda_1
SCALES = {
    "linear": Scale(lambda values: values, float),
    "ratio": Scale(np.log, np.exp),
    "share": Scale(lambda values: special.logit(np.clip(values, 1e-6, 1 - 1e-6)), special.expit),
    "decrease": Scale(
        lambda percent: np.log(np.maximum(1 - percent / 100, 1e-12)), lambda left: 100 * (1 - np.exp(left))
    ),
}


def judge(quantity: Quantity, values: Any) -> dict[str, Any]:
    """Effect, interval and verdict of the values of the seeds (n,)."""
    values, scale = np.asarray(values, dtype=np.float64), SCALES[quantity.scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = scale.forward(values)
    if len(scaled) == 0 or not np.isfinite(scaled).all():
        return {"effect": np.nan, "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
    if len(scaled) == 1:
        return {"effect": values[0], "low": np.nan, "high": np.nan, "verdict": UNDECIDED}
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(scaled) - 1) * scaled.std(ddof=1) / np.sqrt(len(scaled))
    effect, *ends = (float(scale.back(scaled.mean() + step)) for step in (0, -half, half))
    low, high = sorted(ends)
    if quantity.lower <= low and high <= quantity.upper:
        verdict = HOLDS
    else:
        verdict = FAILS if high < quantity.lower or low > quantity.upper else UNDECIDED
    return {"effect": effect, "low": low, "high": high, "verdict": verdict}


def batch_sizes(metrics: pd.DataFrame) -> pd.DataFrame:
    """The largest and the smallest batch size of each data set and model."""
    return metrics.groupby(["dataset", "model"])["batch_size"].agg(large="max", small="min").reset_index()


def in_words(large: pd.Series, small: pd.Series) -> pd.Series:
    """A pair of batch sizes as the column batch_size has it."""
    return large.astype(str) + " against " + small.astype(str)


def judgeable(results: Results) -> list[Claim]:
    """The claims whose tables are there: a measurement may be disabled."""
    return [claim for claim in claims().values() if set(claim.needs) <= set(results.tables)]


def effects_table(results: Results) -> pd.DataFrame:
    """One row for each claim, network and quantity.

    Returns:
        columns claim, dataset, model, batch_size, quantity, claimed, decides (else it has no vote), seeds, effect, low,
        high (95 % interval), verdict, note (why it is undecided).
    """
    settings = {key.rpartition(".")[2]: value for key, value in results.settings.items()}
    rows = []
    for claim in judgeable(results):
        measured = claim.measure(results).astype({"batch_size": str})
        for network in _networks(claim, results["metrics"]):
            part = measured[(measured[NETWORK] == list(network)).all(axis=1)]
            for quantity in claim.quantities:
                judged = judge(quantity, part[quantity.column].to_numpy())
                row = {"claim": int(claim.name), **dict(zip(NETWORK, network, strict=True))}
                row |= {"quantity": quantity.meaning.format(**settings), "claimed": quantity.bound}
                row |= {"decides": quantity.decides, "seeds": len(part), **judged}
                rows.append(row | {"note": _why_undecided(judged, len(part), network)})
    return pd.DataFrame(rows)


def _networks(claim: Claim, metrics: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The networks that a claim is about, or the pairs of batch sizes that it compares."""
    if claim.compares == "batch sizes":
        ends = batch_sizes(metrics)
        networks = ends.assign(batch_size=in_words(ends["large"], ends["small"]))
    else:
        networks = metrics[NETWORK].drop_duplicates().astype({"batch_size": str})
    return list(networks[NETWORK].itertuples(index=False, name=None))


def _why_undecided(judged: dict[str, Any], seeds: int, network: tuple[str, str, str]) -> str:
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
    """One row for each claim: its verdict, in how many networks it holds, and the finding in a sentence."""
    rows = []
    for claim in claims().values():
        part = effects[effects["claim"] == int(claim.name)]
        if not len(part):
            continue
        networks = part[part["decides"]].groupby(NETWORK, sort=False)["verdict"].agg(_joint)
        counts = {verdict: int((networks == verdict).sum()) for verdict in (HOLDS, FAILS, UNDECIDED)}
        rows.append(
            {
                "claim": int(claim.name),
                "statement": claim.statement,
                "verdict": _joint(networks),
                **counts,
                "finding": _finding(part, networks),
            }
        )
    return pd.DataFrame(rows)


def _joint(verdicts: pd.Series) -> str:
    """The verdict over all parts: fails if any fails, holds if all hold, else undecided."""
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
    failing = [f"{d}-{m}/{b}" for d, m, b in networks.index[networks == FAILS]]
    where = f" (fails: {', '.join(failing)})" if failing else ""
    return f"{', '.join(counts)} of {len(networks)} networks{where}. {'; '.join(ranges) or 'Nothing measured'}."


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"
