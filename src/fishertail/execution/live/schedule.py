"""At which SGD steps of a training loop something is measured: a question that costs one look into a set."""

import operator
import re
import sys
from collections.abc import Container, Iterable
from typing import SupportsIndex

_PER_OCTAVE = re.compile(r"([1-9]\d*) per octave")
_EVERY = re.compile(r"every ([1-9]\d*)")
_OCTAVES = 50  # no training takes 2^50 steps


def steps_of(schedule: str | Iterable[SupportsIndex]) -> Container[int]:
    """The steps of a schedule.

    Args:
        schedule: "n per octave" for 0 and the steps nearest to 2^(k / n); "every n"; or a list of steps.

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(schedule, str):
        given = schedule
        try:
            given = list(schedule)
            steps = frozenset(map(operator.index, given))
        except TypeError:
            steps = frozenset()
        if not steps or min(steps) < 0 or any(isinstance(step, bool) for step in given):
            raise ValueError(f"schedule: at least one step, each a whole number of 0 or more, expected, found {given}")
        return steps
    if found := _PER_OCTAVE.fullmatch(schedule):
        per_octave = int(found[1])
        return frozenset({0} | {round(2 ** (k / per_octave)) for k in range(per_octave * _OCTAVES)})
    if found := _EVERY.fullmatch(schedule):
        return range(0, sys.maxsize, int(found[1]))
    raise ValueError(f"schedule: '4 per octave', 'every 500', or a list of steps expected, found {schedule!r}")
