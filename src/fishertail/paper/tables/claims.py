"""Verdicts on the paper's claims, and the effects behind them."""

from typing import TYPE_CHECKING

from fishertail.paper.claims.claim import claims, module
from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd


def make(results: Results) -> "dict[str, pd.DataFrame]":
    """Both tables."""
    from fishertail.paper.claims import judging

    effects = judging.effects_table(results)
    return {"claims": judging.verdicts_table(effects), "claim_effects": effects}


TABLE = TableOfRuns(
    name="claims",
    title="The claims",
    category="Claims",
    caption=(
        "The claims of the paper, judged by this run. Each network (data set, model, batch size) is judged by the "
        "95 % interval of its mean over the seeds: inside the claimed bounds the claim holds, outside it fails, "
        "and with one seed or across a bound it is undecided. A claim holds if it does in every network, and "
        "fails if it does in any."
    ),
    needs=tuple(dict.fromkeys(name for claim in claims().values() for name in claim.needs)),
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
                Column("verdict", "holds, fails or undecided"),
                Column("holds", "networks in which it holds"),
                Column("fails", "networks in which it fails"),
                Column("undecided", "networks in which it is undecided"),
                Column("finding", "the result in a sentence"),
            ),
        ),
        Table(
            name="claim_effects",
            suffix="csv",
            meaning="the effects by which the claims are judged",
            columns=(
                Column("claim", "its number"),
                Column("dataset", "of the network"),
                Column("model", "of the network"),
                Column("batch_size", "of the network, or the pair that is compared"),
                Column("quantity", "what is bounded"),
                Column("claimed", "the bound"),
                Column("decides", "whether it has a vote"),
                Column("seeds", "number of seeds"),
                Column("effect", "mean over the seeds"),
                Column("low", "end of the 95 % interval"),
                Column("high", "end of the 95 % interval"),
                Column("verdict", "holds, fails or undecided"),
                Column("note", "why it is undecided"),
            ),
        ),
    ),
)
