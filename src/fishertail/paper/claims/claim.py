"""What a claim of the paper is: quantities that each run, or pair of runs, measures once, and bounds for them.

A registered file holds one. Its docstring is its page in the docs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fishertail import registry
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd

PACKAGE, CONSTANT = "fishertail.paper.claims", "CLAIM"
OTHERS = frozenset({"claim", "points", "judging", "verdicts"})  # modules that register nothing
UNBOUNDED = float("inf")


@dataclass(frozen=True)
class Quantity:
    """What a claim bounds.

    Attributes:
        column: its column in what `Claim.measure` returns.
        meaning: what it is, with settings in braces by the last part of their key: {near_zero:g}.
        lower, upper: bounds.
        scale: the scale on which mean and spread are taken: the logarithm of a ratio, the logit of a share.
        decides: whether it has a vote; otherwise it is shown beside those that have one.
        in_every_seed: it holds if it does in every seed, and cannot fail, since it is itself only a bound.
    """

    column: str
    meaning: str
    lower: float = -UNBOUNDED
    upper: float = UNBOUNDED
    scale: Literal["linear", "ratio", "share"] = "linear"
    decides: bool = True
    in_every_seed: bool = False

    @property
    def bound(self) -> str:
        """In words; empty where there is none."""
        if self.lower == -UNBOUNDED and self.upper == UNBOUNDED:
            return ""
        if self.upper == UNBOUNDED:
            return f"at least {self.lower:g}"
        return f"at most {self.upper:g}" if self.lower == -UNBOUNDED else f"{self.lower:g} to {self.upper:g}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: its number.
        statement: the claim, in a sentence.
        measure: a function of `Results`; returns a table with the columns dataset, model, batch_size, seed, and those
            of the quantities, with a row for each run (or pair) that has passed its lowest validation loss. NaN is not
            measured. Where the column stopped_early is true, the run ended too early for this claim.
        quantities: what it bounds.
        needs: names of the tables without which it is not judged.
        uses: names of further tables, without which some of its quantities are not measured.
        settings: dotted keys of the configuration that it depends on.
        compares: what counts as one network: a batch size, a pair of them, or all runs together.
        figures: names of the files of the figures that show it.
    """

    name: str
    statement: str
    measure: "Callable[[Results], pd.DataFrame]"
    quantities: tuple[Quantity, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    compares: Literal["nothing", "batch sizes", "all runs"] = "nothing"
    figures: tuple[str, ...] = ()


def claims() -> dict[str, Claim]:
    """All claims by their numbers."""
    found = registry.registered(PACKAGE, CONSTANT, Claim, OTHERS)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def module(claim: Claim) -> str:
    """The module of a claim, for the hash of code."""
    return registry.module_of(PACKAGE, CONSTANT, claim, OTHERS)
