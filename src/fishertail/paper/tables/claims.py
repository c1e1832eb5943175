"""Verdicts on the paper's claims, and the effects behind them."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import claims, module
from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd


def make(results: Results) -> "dict[str, pd.DataFrame]":
    """All three tables."""
    from fishertail.paper.claims import verdicts

    effects = verdicts.effects_table(results)
    return {
        "claims": verdicts.verdicts_table(effects),
        "claim_networks": verdicts.networks_table(effects),
        "claim_effects": effects,
    }


_NETWORK = (
    Column("claim", "its number"),
    Column("dataset", "of the network"),
    Column("model", "of the network"),
    Column("batch_size", "of the network, or the pair that is compared"),
    Column("votes", "whether the network does: the paper's, or all where a grid has none of these"),
)
_VERDICT = "holds, fails, not run, stopped early or undecided"

TABLE = TableOfRuns(
    name="claims",
    title="The claims",
    category="Claims",
    caption=(
        "The claims of the paper, judged by these runs (docs/reproduction/criteria.md). Each network (data set, model, "
        "batch size) is judged by one-sided 95 % limits of its mean over the seeds: it holds if they keep to the "
        "bounds, and fails if the mean is beyond one, by a t test corrected by Holm over the claim. The criteria were "
        "fixed before these runs, and after others were known. A claim fails if any network that votes does, and holds "
        "if all do."
    ),
    needs=tuple(dict.fromkeys(name for claim in claims().values() for name in (*claim.needs, *claim.uses))),
    make=make,
    partly=True,
    code=tuple(module(claim) for claim in claims().values()),
    settings=tuple(dict.fromkeys(key for claim in claims().values() for key in claim.settings)),
    tables=(
        Table(
            name="claims",
            suffix="csv",
            meaning="the paper's claims and their verdicts",
            columns=(
                Column("claim", "its number"),
                Column("statement", "what the paper says"),
                Column("verdict", _VERDICT),
                Column("holds", "networks that vote and in which it holds"),
                Column("fails", "networks in which it fails"),
                Column("not_run", "networks that were not run"),
                Column("stopped_early", "networks that have not passed their lowest validation loss"),
                Column("undecided", "networks in which it is undecided"),
                Column("networks", "those that vote, by verdict"),
                Column("others", "networks without a vote, by verdict"),
            ),
        ),
        Table(
            name="claim_networks",
            suffix="csv",
            meaning="the verdict on each claim in each network",
            columns=(*_NETWORK, Column("verdict", _VERDICT)),
        ),
        Table(
            name="claim_effects",
            suffix="csv",
            meaning="the effects by which the claims are judged",
            columns=(
                *_NETWORK,
                Column("quantity", "what is bounded"),
                Column("claimed", "the bound"),
                Column("decides", "whether the quantity has a vote"),
                Column("seeds", "number of seeds"),
                Column("effect", "mean over the seeds"),
                Column("low", "one-sided 95 % limit of the mean"),
                Column("high", "one-sided 95 % limit of the mean"),
                Column("p", "of a mean so far beyond the bound, adjusted by Holm; the smaller one of two sides"),
                Column("verdict", f"{_VERDICT}; empty without a vote"),
                Column("note", "why it is undecided"),
            ),
        ),
    ),
)
