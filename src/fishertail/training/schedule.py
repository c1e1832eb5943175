"""Which SGD steps have a checkpoint, and at which of them something is measured.

Time is the SGD step; an epoch is ceil(N / batch size) of them. Weights are kept at the end of each epoch, and in
octaves of steps (1, 2, 4, ...) inside the first two epochs, where lambda_1 rises and falls within a few hundred.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from fishertail.results.run import Block

EPOCHS_WITH_OCTAVES = 2


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """ceil(samples / batch_size): the last mini-batch of an epoch may be smaller."""
    return -(-samples // batch_size)


def octaves(steps: int) -> list[int]:
    """The powers of two, up to the end of the second epoch, at which no epoch ends.

    Args:
        steps: SGD steps per epoch.
    """
    powers = (2**power for power in range((EPOCHS_WITH_OCTAVES * steps).bit_length()))
    return [step for step in powers if step <= EPOCHS_WITH_OCTAVES * steps and step % steps]


@dataclass(frozen=True)
class Selection:
    """Checkpoints of a block of epochs: the ends of some of its epochs, and the octaves inside it or none."""

    epochs: Sequence[int]
    octaves: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Selection":
        """The selection in a rule's parameters."""
        return cls(tuple(parameters["epochs"]), parameters["octaves"])

    @property
    def any(self) -> bool:
        """Whether it has any checkpoint, but for octaves of which a short epoch has none."""
        return bool(self.epochs) or self.octaves

    def steps(self, block: Block, per_epoch: int) -> list[int]:
        """Its SGD steps, ascending.

        Args:
            block: the block of epochs.
            per_epoch: SGD steps per epoch.
        """
        inside = [step for step in octaves(per_epoch) if block.first <= -(-step // per_epoch) <= block.last]
        return sorted({epoch * per_epoch for epoch in self.epochs} | set(inside if self.octaves else []))


def in_common(selections: Sequence[Selection]) -> bool:
    """Whether selections of a block have a checkpoint in common; no selection at all takes every one."""
    epochs = [set(each.epochs) for each in selections]
    return all(each.octaves for each in selections) or bool(set.intersection(*epochs))


STEPS = "steps"  # in a list of epochs: also the checkpoints inside the first two
_PER_OCTAVE = re.compile(r"([1-9]\d*) per octave")


def _checked(value: Any) -> Any:
    """A schedule as written in the configuration: a list or a word, not a mapping, since overlays merge mappings."""
    if isinstance(value, str):
        if value in ("all", "landmarks") or _PER_OCTAVE.fullmatch(value):
            return value
        raise ValueError("all, landmarks, '4 per octave', or a list of epochs expected")
    if isinstance(value, bool) or not isinstance(value, list):
        raise ValueError("all, landmarks, '4 per octave', or a list of epochs expected")
    epochs = [epoch for epoch in value if epoch != STEPS]
    if not epochs or any(isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0 for epoch in epochs):
        raise ValueError(f"epochs, and the word {STEPS} for the checkpoints inside the first two, expected")
    if any(b <= a for a, b in pairwise(epochs)):
        raise ValueError("epochs must be strictly increasing")
    return value


Schedule = Annotated[
    str | list[int | str],
    PlainValidator(_checked),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "landmarks"]},
                {"type": "string", "pattern": f"^{_PER_OCTAVE.pattern}$"},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"anyOf": [{"type": "integer", "minimum": 0}, {"const": STEPS}]},
                },
            ]
        }
    ),
]


def selected(schedule: str | Sequence[int | str], block: Block, *, octaves_kept: bool) -> Selection:
    """The checkpoints of a block that a schedule takes.

    Args:
        schedule: all; landmarks, of which none is taken here, since they are known only once a run has finished;
            "n per octave", the ends of epochs nearest to 2^(k / n) and the checkpoints inside the first two; or a list
            of epochs, in which the word `steps` stands for the checkpoints inside the first two.
        octaves_kept: whether there are checkpoints inside epochs at all.
    """
    inside = octaves_kept and block.first <= EPOCHS_WITH_OCTAVES
    if schedule == "all":
        return Selection(tuple(block.epochs), inside)
    if schedule == "landmarks":
        return Selection((), False)
    if isinstance(schedule, str):
        wanted, inside_wanted = set(geometric(int(schedule.split()[0]), block.last)), True
    else:
        wanted, inside_wanted = {epoch for epoch in schedule if isinstance(epoch, int)}, STEPS in schedule
    return Selection(tuple(epoch for epoch in block.epochs if epoch in wanted), inside and inside_wanted)


def geometric(per_octave: int, last: int) -> Iterable[int]:
    """0, and the epochs round(2^(k / per_octave)) up to `last`, or somewhat beyond it."""
    return {0} | {round(2 ** (k / per_octave)) for k in range(per_octave * last.bit_length() + 1)}


def landmarks(minimum: int, last: int) -> list[int]:
    """The epochs that are known only once a run has finished: that of lowest validation loss, twice it, and the last.

    Args:
        minimum: the epoch of lowest validation loss.
        last: the last epoch.
    """
    return sorted({epoch for epoch in (minimum, 2 * minimum, last) if epoch <= last})
