"""The layers of measurements that are too dear for all: by default the last hidden one, as in the paper's figures."""

from collections.abc import Sequence
from typing import Literal

LAST_HIDDEN: Literal["last hidden"] = "last hidden"
LayerChoice = Literal["last hidden", "all"] | list[str]


def chosen(wanted: str | Sequence[str], known: Sequence[str], layers: Sequence[str]) -> list[str]:
    """Those that an option `layers` asks for, in the order of `known`.

    Args:
        wanted: LAST_HIDDEN, all, or names; a name that is not known is left out.
        known: all that can be measured, "network" among them where it can.
        layers: those of the model, from the input to the output. The one before the last is the last hidden one; of a
            model with one layer it is that.
    """
    if wanted == "all":
        return list(known)
    names = list(layers[-2:])[:1] if wanted == LAST_HIDDEN else wanted
    return [layer for layer in known if layer in names]
