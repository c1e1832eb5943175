"""`Decomposition`: a function of torch that is computed as the linear layers it consists of.

Such a function (attention, LSTM) takes several weights at once and hides the sums inside, by which derivatives are
needed. Run as simpler functions, each with a rule, its weights have rows like any others.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fishertail.gradients.layer_rules.rule import Function

Kind = TypeVar("Kind", bound=type["Decomposition"])
DECOMPOSITIONS: dict[Function, "Decomposition"] = {}  # of each function that has one


def decomposes(*functions: Function) -> Callable[[Kind], Kind]:
    """Register the class below as the decomposition of these functions of torch."""

    def register(kind: Kind) -> Kind:
        for function in functions:
            DECOMPOSITIONS[function] = kind(function)
        return kind

    return register


class Decomposition:
    """A function of torch, written in terms of others. A subclass decorated with `decomposes` defines `run`."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def applies(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call with these arguments is covered; the function itself is called otherwise."""
        return True

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, up to rounding."""
        raise NotImplementedError
