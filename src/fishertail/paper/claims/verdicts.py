"""The tables of effects and verdicts: by quantity and network, by network, and by claim.

A network fails a claim if a quantity fails, and holds if all hold; else it was not run, stopped early, or is undecided.
It does not hold by some of its seeds: where others stopped early, so did it, and where others were not measured, it is
undecided.
A claim has the verdict of its networks, by the same rule. The paper's networks vote; others are shown beside them.
Where a grid has none of the paper's data sets with its models, all its networks vote.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fishertail.paper.claims import judging
from fishertail.paper.claims.claim import Claim, Quantity, claims
from fishertail.paper.claims.judging import FAILS, HOLDS, NOT_RUN, STOPPED_EARLY, UNDECIDED, Judged, Spread
from fishertail.results.exhibits import Results
from fishertail.statistics.minimum import lowest_validation_loss

NETWORK = ["dataset", "model", "batch_size"]
GRID = {(dataset, model) for dataset in ("mnist", "cifar10") for model in ("fc", "conv")}  # of the paper
PAPER = {("mnist", "fc"), ("cifar10", "conv")}  # those of its numbers, which is our inference from Fig. 6
ALL_RUNS = ("all", "all", "all")
ORDER = (NOT_RUN, STOPPED_EARLY, UNDECIDED)  # of what is neither failed nor held, the first counts

Network = tuple[str, str, str]


def judgeable(results: Results) -> list[Claim]:
    """The claims that have their tables: a measurement may be disabled."""
    return [
        claim
        for claim in claims().values()
        if set(claim.needs) <= set(results.tables) and not _lacks_all(claim, results)
    ]


def _lacks_all(claim: Claim, results: Results) -> bool:
    """Whether a claim that can do without each of its tables has none of them."""
    return bool(claim.uses) and claim.needs == ("metrics",) and not set(claim.uses) & set(results.tables)


def effects_table(results: Results) -> pd.DataFrame:
    """One row for each claim, network and quantity.

    Returns:
        columns claim, dataset, model, batch_size, votes (whether the network does), quantity, claimed, decides (whether
        the quantity has a vote), seeds, effect, low, high (one-sided 95 % limits), p (adjusted by Holm; the smaller one
        of two sides), verdict (empty without a vote), note (why there is none).
    """
    settings = {key.rpartition(".")[2]: value for key, value in results.settings.items()}
    rows = [row for claim in judgeable(results) for row in _effects(claim, results, settings)]
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = [
    "claim", *NETWORK, "votes", "quantity", "claimed", "decides", "seeds", "effect", "low", "high", "p", "verdict",
    "note",
]  # fmt: skip


def _effects(claim: Claim, results: Results, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    measured = claim.measure(results).astype({"batch_size": str})
    networks = _networks(claim, results["metrics"])
    if claim.compares == "all runs":
        voting = [key for key, votes in _trained(results["metrics"]).items() if votes]
        measured = measured[measured[NETWORK].apply(tuple, axis=1).isin(voting)] if len(measured) else measured
        measured = measured.assign(**dict(zip(NETWORK, ALL_RUNS, strict=True)))
    values = {
        (network, quantity.column): judging.scaled(quantity, _of(network, measured)[quantity.column])
        if quantity.column in measured
        else np.array([])
        for network in networks
        for quantity in claim.quantities
    }
    judged = {
        (network, quantity.column): Judged(
            values[network, quantity.column],
            _spread(network, [n for n in networks if networks[n] == networks[network]], quantity, values),
            _bounds(quantity),
            quantity.in_every_seed,
        )
        for network in networks
        for quantity in claim.quantities
    }
    p_values = _adjusted(claim, networks, judged)
    rows = []
    for network, votes in networks.items():
        for quantity in claim.quantities:
            found, p = judged[network, quantity.column], p_values.get((network, quantity.column), np.nan)
            part = _of(network, measured)
            state = _state(network, part, claim, results["metrics"])
            verdict, note = _verdict(found, p, state, len(part))
            back = judging.SCALES[quantity.scale].back
            low, high = sorted(map(float, map(back, found.limits)))
            rows.append(
                {"claim": int(claim.name), **dict(zip(NETWORK, network, strict=True)), "votes": votes}
                | {"quantity": quantity.meaning.format(**settings), "claimed": quantity.bound}
                | {"decides": quantity.decides, "seeds": len(found.values), "effect": float(back(found.mean))}
                | {"low": low, "high": high, "p": p if quantity.decides else np.nan}
                | {"verdict": verdict if quantity.decides else "", "note": note if quantity.decides else ""}
            )
    return rows


def _networks(claim: Claim, metrics: pd.DataFrame) -> dict[Network, bool]:
    """The networks that a claim is about, and whether each votes; the paper's are there even if they were not run."""
    if claim.compares == "all runs":
        return {ALL_RUNS: True}
    if claim.compares == "nothing":
        return _trained(metrics)
    of_the_paper = _of_the_paper(metrics)
    ends = judging.batch_sizes(metrics)
    ends |= dict.fromkeys(sorted(PAPER), judging.OF_THE_PAPER) if of_the_paper else {}
    return {(*pair, judging.in_words(*sizes)): not of_the_paper or pair in PAPER for pair, sizes in ends.items()}


def _of_the_paper(metrics: pd.DataFrame) -> bool:
    """Whether a grid has one of the paper's data sets with one of its models."""
    return any(pair in GRID for pair in metrics[NETWORK[:2]].itertuples(index=False, name=None))


def _trained(metrics: pd.DataFrame) -> dict[Network, bool]:
    """The networks of a grid, with those of the paper, and whether each votes."""
    trained = [(str(d), str(m), int(b)) for d, m, b in metrics[NETWORK].drop_duplicates().itertuples(index=False)]
    sizes = sorted(judging.OF_THE_PAPER) if _of_the_paper(metrics) else []
    wanted = [(*pair, size) for pair in sorted(PAPER) for size in sizes]
    return {
        (dataset, model, str(size)): not wanted or (dataset, model, size) in wanted
        for dataset, model, size in dict.fromkeys([*trained, *wanted])
    }


def _of(network: Network, measured: pd.DataFrame) -> pd.DataFrame:
    return measured[(measured[NETWORK] == list(network)).all(axis=1)]


def _spread(
    network: Network,
    alike: Iterable[Network],
    quantity: Quantity,
    values: Mapping[tuple[Network, str], Any],
) -> Spread:
    """That of a network's data set and model; of all networks that vote as it does where that has too few seeds."""
    pair = Spread.pooled([values[each, quantity.column] for each in alike if each[:2] == network[:2]])
    return pair if pair.enough else Spread.pooled([values[each, quantity.column] for each in alike])


def _bounds(quantity: Quantity) -> tuple[float, float]:
    forward = judging.SCALES[quantity.scale].forward
    lower, upper = (bound if np.isinf(bound) else float(forward(bound)) for bound in (quantity.lower, quantity.upper))
    return lower, upper


def _adjusted(
    claim: Claim, networks: Mapping[Network, bool], judged: Mapping[tuple[Network, str], Judged]
) -> dict[tuple[Network, str], float]:
    """p values by network and quantity: Holm's family is every quantity, network and side, of those that vote alike.

    What was not measured is in the family, too, so that no run that is still to come can undo a failure by its number.
    """
    found: dict[tuple[Network, str], float] = {}
    for votes in (True, False):
        family = [
            (network, quantity.column)
            for network in networks
            for quantity in claim.quantities
            if networks[network] == votes and quantity.decides
        ]
        tested = [(key, p) for key in family for p in judged[key].p_values()]
        unmeasured = sum(judged[key].sides for key in family) - len(tested)
        adjusted = judging.holm([p for _, p in tested] + [1.0] * unmeasured)
        for (key, _), p in zip(tested, adjusted[: len(tested)], strict=True):
            found[key] = min(p, found.get(key, 1.0))
    return found


def _state(network: Network, measured: pd.DataFrame, claim: Claim, metrics: pd.DataFrame) -> str:
    """Why a network may lack values: not run, some runs stopped early, or else not measured."""
    if claim.compares == "all runs":
        voting = {key for key, votes in _trained(metrics).items() if votes}
        runs = {(str(d), str(m), str(b)): part for (d, m, b), part in metrics.groupby(NETWORK)}
        trained = [runs[key] for key in voting & set(runs)]
        if not trained:
            return NOT_RUN
        passed = any(
            lowest_validation_loss(run).passed for part in trained for _, run in part.groupby("seed", sort=False)
        )
        return "nothing to fit a threshold on" if passed else STOPPED_EARLY
    sizes = network[2].split(" against ")
    run = metrics[(metrics["dataset"] == network[0]) & (metrics["model"] == network[1])]
    if not set(sizes) <= set(run["batch_size"].astype(str)):
        return NOT_RUN
    if len(set(sizes)) < len(sizes):
        return "one batch size"
    seeds = [set(run.loc[run["batch_size"].astype(str) == size, "seed"]) for size in sizes]
    early = len(measured) < len(set.intersection(*seeds))  # of the rest no row was measured
    early |= "stopped_early" in measured and bool(measured["stopped_early"].any())
    return STOPPED_EARLY if early else "not measured"


def _verdict(found: Judged, p: float, state: str, seeds: int) -> tuple[str, str]:
    """The verdict of a quantity in a network, and why it is undecided.

    Args:
        state: of `_state`.
        seeds: how many have passed their lowest validation loss.
    """
    if not len(found.values):
        return (state, "") if state in ORDER else (UNDECIDED, state)
    if p <= 1 - judging.CONFIDENCE:
        return FAILS, ""
    if state == STOPPED_EARLY:
        return STOPPED_EARLY, "some seeds"
    if len(found.values) < seeds:
        return UNDECIDED, "not measured in every seed"
    if found.holds:
        return HOLDS, ""
    if found.in_every_seed:
        return UNDECIDED, "the bound is too weak to tell"
    if not found.spread.enough:
        return UNDECIDED, "too few seeds to know their spread"
    if found.beyond:
        return UNDECIDED, "beyond the bound, but not after Holm's correction"
    return UNDECIDED, "the limits reach across the bound"


def joint(verdicts: Iterable[str]) -> str:
    """The verdict over all parts."""
    found = list(verdicts)
    if FAILS in found:
        return FAILS
    if found and all(verdict == HOLDS for verdict in found):
        return HOLDS
    return next((verdict for verdict in ORDER if verdict in found), UNDECIDED)


def networks_table(effects: pd.DataFrame) -> pd.DataFrame:
    """One row for each claim and network: columns claim, dataset, model, batch_size, votes, verdict."""
    deciding = effects[effects["decides"].astype(bool)]
    keys = ["claim", *NETWORK, "votes"]
    return deciding.groupby(keys, sort=False)["verdict"].agg(joint).reset_index()


def verdicts_table(effects: pd.DataFrame) -> pd.DataFrame:
    """One row for each claim: its verdict, in how many networks that vote it holds, and what the others show."""
    networks, rows = networks_table(effects), []
    for claim in claims().values():
        part = networks[networks["claim"] == int(claim.name)]
        if not len(part):
            continue
        voting, others = part[part["votes"]], part[~part["votes"]]
        rows.append(
            {"claim": int(claim.name), "statement": claim.statement, "verdict": joint(voting["verdict"])}
            | {name.replace(" ", "_"): int((voting["verdict"] == name).sum()) for name in (HOLDS, FAILS, *ORDER)}
            | {"networks": _listed(voting), "others": _listed(others)}
        )
    counts = [name.replace(" ", "_") for name in (HOLDS, FAILS, *ORDER)]
    return pd.DataFrame(rows, columns=["claim", "statement", "verdict", *counts, "networks", "others"])


def _listed(networks: pd.DataFrame) -> str:
    """Networks by verdict: "holds: mnist-fc/16, mnist-fc/256; not run: cifar10-conv/16"."""
    names = {name: networks[networks["verdict"] == name] for name in (HOLDS, FAILS, *ORDER)}
    return "; ".join(
        f"{name}: {', '.join(_named(row) for row in part[NETWORK].itertuples(index=False, name=None))}"
        for name, part in names.items()
        if len(part)
    )


def _named(network: Any) -> str:
    return "all runs" if tuple(network) == ALL_RUNS else f"{network[0]}-{network[1]}/{network[2]}"
