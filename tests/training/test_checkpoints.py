"""Weights by SGD step in a file."""

import pytest
import torch

from fishertail.errors import StorageError
from fishertail.results import storage
from fishertail.training import checkpoints

WEIGHTS = {
    step: {"fc1.weight": torch.full((2, 3), float(step)), "fc1.bias": torch.arange(2) + step} for step in (0, 59, 3750)
}


@pytest.fixture
def path(tmp_path):
    checkpoints.write(WEIGHTS, tmp_path / "c.safetensors", {"rule": "train"})
    return tmp_path / "c.safetensors"


def test_tensors_are_named_by_step(path):
    assert "step00000059/fc1.weight" in storage.read_tensors(path)
    assert storage.read_provenance(path)["rule"] == "train"


def test_weights_come_back_by_step(path):
    found = checkpoints.read(path, [59, 0])
    assert list(found) == [59, 0]
    for step, state in found.items():
        assert state.keys() == WEIGHTS[step].keys()
        assert all(torch.equal(state[name], WEIGHTS[step][name]) for name in state)


def test_the_last_weights(path):
    step, state = checkpoints.read_last(path)
    assert step == 3750
    assert torch.equal(state["fc1.bias"], WEIGHTS[3750]["fc1.bias"])


def test_no_steps_need_no_file(tmp_path):
    assert checkpoints.read(tmp_path / "missing.safetensors", []) == {}


def test_a_step_that_is_not_in_a_checkpoint_file_is_named(path):
    with pytest.raises(StorageError, match=r"c\.safetensors: no weights of step 60"):
        checkpoints.read(path, [59, 60])
