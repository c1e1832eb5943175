"""The grid that a configuration spans: its runs, their blocks of epochs, and the checkpoints that are measured."""

from hypothesis import given
from hypothesis import strategies as st

from fishertail.grid import config
from fishertail.results.run import Block
from fishertail.training.schedule import Selection


def grid_of(**keys) -> config.Config:
    """The grid of the defaults but for these keys."""
    return config.complete()(**keys)


@given(last=st.integers(1, 500), step=st.integers(1, 600))
def test_blocks_cover_every_epoch_once(last, step):
    grid = grid_of(epochs=last, epochs_per_job=step)
    blocks = grid.blocks(grid.runs[0])
    assert [epoch for block in blocks for epoch in block.epochs] == list(range(last + 1))
    assert all(block.last - block.first < step for block in blocks)


def test_the_most_exact_number_of_epochs_counts():
    grid = grid_of(epochs={"default": 1, "mnist-fc": 2, "mnist-fc/bs256": 3})
    found = {run.path.removesuffix("/seed0"): grid.epochs_of(run) for run in grid.runs if run.seed == 0}
    assert [found.pop(key) for key in ("mnist-fc/bs16", "mnist-fc/bs256")] == [2, 3]
    assert set(found.values()) == {1}


def test_runs_are_every_combination_of_the_grid():
    assert len(config.default().runs) == len({run.path for run in config.default().runs}) == 2 * 2 * 2 * 3


def test_blocks_are_of_the_length_that_is_given_for_the_run():
    grid = grid_of(epochs=12, epochs_per_job={"default": 5, "mnist-conv/bs256": 12}, seeds=[0])
    lengths = {run.path: [block.last - block.first + 1 for block in grid.blocks(run)] for run in grid.runs}
    assert lengths.pop("mnist-conv/bs256/seed0") == [12]
    assert set(map(tuple, lengths.values())) == {(5, 5, 2)}


def test_checkpoints_are_dealt_out_to_the_blocks():
    keys = {"spectrum": {"checkpoints": [0, 10, 11]}, "norms": {"checkpoints": "10 per octave"}}
    grid = grid_of(epochs=30, epochs_per_job=10, measurements=keys)
    blocks = grid.blocks(grid.runs[0])
    assert [grid.checkpoints_of("spectrum", block).epochs for block in blocks] == [(0, 10), (11,), ()]
    assert [grid.checkpoints_of("norms", block).octaves for block in blocks] == [True, False, False]
    assert [grid.checkpoints_of("data_sensitivity", block) for block in blocks] == [Selection((), False)] * 3


def test_epochs_of_a_schedule_that_a_run_does_not_have_are_passed_over():
    grid = grid_of(epochs=15, measurements={"spectrum": {"checkpoints": [0, 12, 400]}})
    assert [grid.checkpoints_of("spectrum", block).epochs for block in grid.blocks(grid.runs[0])] == [(0,), (12,)]


def test_without_checkpoints_inside_epochs_none_is_measured():
    grid = grid_of(step_checkpoints=False)
    assert not any(grid.checkpoints_of(name, Block(1, 10)).octaves for name in ("norms", "spectrum"))
    assert not grid.octaves_in(Block(1, 10))
    assert config.default().octaves_in(Block(1, 10))
    assert not config.default().octaves_in(Block(3, 10))
