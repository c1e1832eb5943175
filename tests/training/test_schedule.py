"""Which SGD steps have a checkpoint, and at which of them something is measured."""

import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fishertail.results.run import Block
from fishertail.training import schedule
from fishertail.training.schedule import STEPS, Selection, in_common

SCHEDULE = TypeAdapter(schedule.Schedule)
whole = st.integers(1, 400)


@st.composite
def blocks(draw):
    """The blocks of a run, in order."""
    last, size = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    return [Block(first, min(first + size - 1, last)) for first in range(1, last + 1, size)]


lists = st.sets(st.integers(0, 50), min_size=1).map(sorted)
schedules = st.one_of(
    st.sampled_from(["all", "landmarks"]),
    st.integers(1, 6).map("{} per octave".format),
    lists,
    lists.map(lambda epochs: [*epochs, STEPS]),
)


@given(samples=st.integers(1, 10**6), batch_size=st.integers(1, 10**4))
def test_an_epoch_takes_every_sample_once(samples, batch_size):
    steps = schedule.steps_per_epoch(samples, batch_size)
    assert (steps - 1) * batch_size < samples <= steps * batch_size


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (1, []),
        (2, [1]),
        (3, [1, 2, 4]),
        (4, [1, 2]),
        (5, [1, 2, 4, 8]),
        (7, [1, 2, 4, 8]),
        (8, [1, 2, 4]),
        (235, [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        (3750, [2**power for power in range(13)]),
    ],
)
def test_octaves_of_steps(steps, found):
    assert schedule.octaves(steps) == found


@given(st.integers(1, 10**5))
def test_octaves_are_the_powers_of_two_up_to_the_end_of_the_second_epoch(steps):
    found = schedule.octaves(steps)
    assert found == sorted(set(found))
    assert all(math.log2(step).is_integer() and step <= 2 * steps and step % steps for step in found)
    ends = [step for step in (2**power for power in range(18)) if step in (steps, 2 * steps)]
    assert len(found) + len(ends) == int(math.log2(2 * steps)) + 1


@given(blocks(), whole)
def test_blocks_share_out_the_checkpoints_of_a_run(found, steps):
    last = found[-1].last
    of_blocks = [step for block in found for step in Selection(tuple(block.epochs), True).steps(block, steps)]
    whole_run = Selection(tuple(range(last + 1)), True).steps(Block(1, last), steps)
    assert of_blocks == whole_run
    ends = {epoch * steps for epoch in range(last + 1)}
    assert set(whole_run) == ends | {step for step in schedule.octaves(steps) if step <= last * steps}


@given(schedules, blocks(), st.booleans(), whole)
def test_a_schedule_takes_checkpoints_that_there_are(wanted, found, kept, steps):
    for block in found:
        inside = kept and block.first <= schedule.EPOCHS_WITH_OCTAVES
        there = Selection(tuple(block.epochs), inside).steps(block, steps)
        assert set(schedule.selected(wanted, block, octaves_kept=kept).steps(block, steps)) <= set(there)


@given(blocks(), st.integers(1, 6))
def test_so_many_an_octave_are_the_ends_nearest_to_powers(found, count):
    last = found[-1].last
    taken = [e for b in found for e in schedule.selected(f"{count} per octave", b, octaves_kept=True).epochs]
    nearest = {round(2 ** (k / count)) for k in range(200) if round(2 ** (k / count)) <= last}
    assert taken == sorted({0} | nearest)


def test_all_landmarks_and_a_list():
    block = Block(1, 4)
    assert schedule.selected("all", block, octaves_kept=True) == Selection((0, 1, 2, 3, 4), True)
    assert schedule.selected("landmarks", block, octaves_kept=True) == Selection((), False)
    assert schedule.selected([0, 3, 9], block, octaves_kept=True) == Selection((0, 3), False)
    assert schedule.selected([0, 3, "steps"], block, octaves_kept=True) == Selection((0, 3), True)
    assert schedule.selected("1 per octave", block, octaves_kept=True) == Selection((0, 1, 2, 4), True)
    for wanted in ("all", "1 per octave", [3, "steps"]):
        assert not schedule.selected(wanted, block, octaves_kept=False).octaves
        assert not schedule.selected(wanted, Block(3, 4), octaves_kept=True).octaves


def test_a_selection_comes_back_from_a_rules_parameters():
    assert Selection.of({"epochs": [1, 2], "octaves": True}) == Selection((1, 2), True)


@pytest.mark.parametrize(
    ("minimum", "last", "found"), [(7, 30, [7, 14, 30]), (7, 14, [7, 14]), (9, 10, [9, 10]), (5, 5, [5]), (0, 0, [0])]
)
def test_landmarks(minimum, last, found):
    assert schedule.landmarks(minimum, last) == found


VALUES = ["all", "landmarks", "1 per octave", "12 per octave", [0], [0, 2, 9], [3, "steps"], ["steps", 0, 1]]
OTHERS = [
    "some",
    "0 per octave",
    "two per octave",
    "2 per octaves",
    3,
    True,
    None,
    {},
    {"per_octave": 2},
    [],
    ["steps"],
    [2, 1],
    [1, 1],
    [-1],
    [1.5],
    [True],
    ["1"],
]


@pytest.mark.parametrize("value", VALUES)
def test_the_ways_to_say_a_schedule(value):
    assert SCHEDULE.validate_python(value) == value
    jsonschema.validate(value, SCHEDULE.json_schema())


@pytest.mark.parametrize("value", OTHERS)
def test_anything_else_is_refused(value):
    with pytest.raises(ValidationError):
        SCHEDULE.validate_python(value)


@pytest.mark.parametrize("value", [value for value in OTHERS if value not in (["steps"], [2, 1], [1, 1])])
def test_the_schema_refuses_all_but_the_order_of_epochs(value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEDULE.json_schema())


def test_selections_have_a_checkpoint_in_common_or_not():
    ends, others, inside = Selection((0, 2), True), Selection((2, 3), False), Selection((1,), True)
    assert in_common([])
    assert in_common([ends, others])
    assert in_common([ends, inside])  # the octaves
    assert not in_common([others, inside])
    assert not in_common([Selection((), False)])
