"""What a claim of the paper is: quantities that each run, or pair of runs, measures once, and bounds for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fishertail import registry
from fishertail.results.exhibits import Results

if TYPE_CHECKING:
    import pandas as pd

PACKAGE, CONSTANT = "fishertail.paper.claims", "CLAIM"
OTHERS = frozenset({"claim", "judging"})  # modules that register nothing
UNBOUNDED = float("inf")


@dataclass(frozen=True)
class Quantity:
    """What a claim bounds.

    Attributes:
        column: its column in what `Claim.measure` returns.
        meaning: what it is, with settings in braces by the last part of their key: {near_zero:g}.
        lower, upper: bounds.
        scale: the scale on which mean and interval are taken, so that they stay in the range of the quantity.
        decides: whether it has a vote; otherwise it is shown beside those that have one.
    """

    column: str
    meaning: str
    lower: float = -UNBOUNDED
    upper: float = UNBOUNDED
    scale: Literal["linear", "ratio", "share", "decrease"] = "linear"
    decides: bool = True

    @property
    def bound(self) -> str:
        """In words."""
        if self.upper == UNBOUNDED:
            return f"at least {self.lower:g}"
        return f"{self.lower:g} to {self.upper:g}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: its number.
        statement: the claim, in a sentence.
        measure: a function of `Results`; returns a table with the columns dataset, model, batch_size, seed, and those
            of the quantities.
        quantities: what it bounds.
        needs: names of the tables that it is judged by.
        settings: dotted keys of the configuration that it depends on.
        compares: "batch sizes" where a pair of them counts as one network.
    """

    name: str
    statement: str
    measure: "Callable[[Results], pd.DataFrame]"
    quantities: tuple[Quantity, ...]
    needs: tuple[str, ...]
    settings: tuple[str, ...] = ()
    compares: Literal["nothing", "batch sizes"] = "nothing"


def claims() -> dict[str, Claim]:
    """All claims by their numbers."""
    found = registry.registered(PACKAGE, CONSTANT, Claim, OTHERS)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def module(claim: Claim) -> str:
    """The module of a claim, for the hash of code."""
    return registry.module_of(PACKAGE, CONSTANT, claim, OTHERS)


def passed(results: Results) -> "pd.DataFrame":
    """E* of the runs that have passed it: the columns of a run, epoch and step."""
    import pandas as pd

    from fishertail.results.schema import RUN

    rows = [(*key, found.epoch, found.step) for key, found in results.minima().items() if found.passed]
    return pd.DataFrame(rows, columns=[*RUN, "epoch", "step"])


def at_minimum(results: Results, table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a table that are of E*, of the runs that have passed it."""
    from fishertail.results.schema import RUN

    return table.merge(passed(results)[[*RUN, "step"]], on=[*RUN, "step"])
