"""Runs and their blocks of epochs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishertail.results.run import Block, Run


def test_the_folder_of_a_run():
    assert Run("mnist", "fc", 16, 0).path == "mnist-fc/bs16/seed0"
    parameters = {"seed": 0, "model": "fc", "dataset": "mnist", "batch_size": 16, "architecture": {}}
    assert Run.of(parameters) == Run("mnist", "fc", 16, 0)


@pytest.mark.parametrize(
    ("block", "path", "epochs"), [((1, 3), "epochs0001-0003", [0, 1, 2, 3]), ((4, 4), "epochs0004-0004", [4])]
)
def test_the_first_block_has_the_initial_weights(block, path, epochs):
    assert Block(*block).path == path
    assert list(Block(*block).epochs) == epochs


@given(st.integers(1, 9000), st.integers(0, 900))
def test_a_block_comes_back_from_its_epochs_and_its_folder(first, more):
    block = Block(first, first + more)
    assert Block.of(block.epochs) == Block.of(list(block.epochs)) == Block.at(block.path) == block
