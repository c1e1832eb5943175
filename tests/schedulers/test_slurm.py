"""The workflow, and the library's own jobs, on a real Slurm."""

import pytest

from tests.schedulers.workflow import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SCHEDULER = "slurm"


class TestSlurm(Workflow):
    def test_a_run_is_analysed_by_a_call_of_the_library(self, login, scheduler):
        (login.path / "call.py").write_text(CALL)
        output = login.script("call.py")
        assert "same: True" in output, output
        assert "unreadable: missing.pt: not a readable checkpoint" in output, output
        assert "died: worker 1 of 2 (steps 0, 2) died; its log ends:" in output, output


CALL = """
import os
import signal

import torch
from torch import nn
import fishertail

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
samples = torch.randn(60, 6), torch.randint(3, (60,))
checkpoints = {epoch: {n: t + 0.1 * epoch for n, t in model.state_dict().items()} for epoch in range(4)}
options = {"device": "cpu", "threads": 1}
slurm = {"cluster": "slurm", "jobs": 2, "slurm_partition": "gpu", "gpus_per_node": 1, "mem_gb": 1, "timeout_min": 3}
here = fishertail.analyse_run(model, checkpoints, *samples, **options)
there = fishertail.analyse_run(model, checkpoints, *samples, **options, **slurm)
print("same:", here.spectrum.equals(there.spectrum) and here.norms.equals(there.norms))
try:
    fishertail.analyse_run(model, {0: "missing.pt"}, *samples, **options, **slurm)
except fishertail.errors.CheckpointError as error:
    print("unreadable:", error)


def killed_in_a_job(output, target):
    if "SLURM_JOB_ID" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(output, target)


try:
    fishertail.analyse_run(model, checkpoints, *samples, **options, **slurm, loss=killed_in_a_job)
except fishertail.errors.WorkerError as error:
    print("died:", error)
"""
