"""A Watch in trainings on two processes, by DistributedDataParallel and fully_shard, and around compiled models."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import UnsupportedModelError
from fishertail.execution.live.model import WatchedModel
from fishertail.results import storage
from tests.docs.code_blocks import ROOT
from tests.execution.watch_in_processes import MEASURED, REFUSED, WAYS, WORLD, network, samples


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the trainings, and what the ranks printed."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "tests.execution.watch_in_processes"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT, **pipes) for rank in range(WORLD)]
    try:
        outputs = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * WORLD, "\n".join(error for _, error in outputs)
    return folder, [output for output, _ in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_rank_0_measures_and_training_is_bit_identical(trained, way):
    folder = trained[0] / way
    watched, alone = (torch.load(folder / f"{kind}.pt") for kind in ("watched", "alone"))
    for step in alone:
        assert all(torch.equal(watched[step][name], tensor) for name, tensor in alone[step].items())
    norms = storage.read_table(folder / "watched" / "norms.parquet")
    assert norms["step"].unique().tolist() == MEASURED
    for step in MEASURED:
        model = network().eval()
        model.load_state_dict(alone[step])
        expected = fishertail.gradient_norms(model, *samples()).network
        assert np.allclose(norms[norms["step"] == step]["network"], expected, rtol=1e-6)


@pytest.mark.slow
def test_a_model_that_is_sharded_already_is_refused(trained):
    for output in trained[1]:
        for way, line in zip(REFUSED, output.splitlines(), strict=True):
            assert line.startswith(f"{way} refused: model: a whole model expected, found one that is sharded; make")


def test_a_model_sharded_after_a_watch_that_knew_no_processes_is_refused(tmp_path, monkeypatch):
    watch = fishertail.Watch(network(), *samples(), folder=tmp_path, schedule=MEASURED, device="cpu")
    monkeypatch.setattr(WatchedModel, "sharded", True)
    with pytest.raises(UnsupportedModelError, match="make the Watch after `init_process_group` and before"):
        watch(0)
    assert watch(2) == {}  # not due


@pytest.mark.parametrize("compiled", ["wrapped", "in place"])
def test_a_compiled_model_is_measured_by_its_own_modules(tmp_path, compiled):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    expected = fishertail.gradient_norms(model, *samples()).network
    trained = torch.compile(model, backend="eager") if compiled == "wrapped" else model
    if compiled == "in place":
        model.compile(backend="eager")
    trained(samples()[0])
    fishertail.Watch(trained, *samples(), folder=tmp_path, device="cpu")(0)
    found = storage.read_table(tmp_path / "norms.parquet")
    assert list(found)[-3:] == ["0", "2", "network"]
    assert np.allclose(found["network"], expected, rtol=1e-6)
