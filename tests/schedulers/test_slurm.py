"""What is promised, on a real Slurm."""

import pytest

from tests.schedulers.behaviour import Behaviour, spans
from tests.schedulers.loopback import wait_for

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SCHEDULER = "slurm"


class TestSlurm(Behaviour):
    def test_one_gpu_jobs_have_each_their_own_and_the_fifth_goes_to_the_second_node(self, login):
        assert {node for _, node, _, _ in self.five_jobs(login)} == {"tn0", "tn1"}

    def test_the_jobs_of_a_node_that_is_gone_are_run_on_another(self, login, scheduler):
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=10))
        part = login.path / "out/one_gpu0.txt.part"
        wait_for(lambda: part.exists() and part.read_text(), 60, "the job")
        node = part.read_text().split()[1]
        scheduler.stop_node(node)
        try:
            assert process.wait(timeout=240) == 0, (login.path / "output.log").read_text()[-4000:]
            assert spans(login, 1)[0][1] != node
        finally:
            scheduler.start_node(node)
            wait_for(lambda: set(scheduler.run("sinfo", "-h", "-o", "%T").split()) == {"idle"}, 60, "the node")

    def test_a_run_is_analysed_by_a_call_of_the_library(self, login, scheduler):
        (login.path / "call.py").write_text(CALL)
        output = login.script("call.py")
        assert "same: True" in output, output
        assert "died" in output, output


CALL = """
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
print("same:", here.spectrum.equals(there.spectrum) and here.gradients.equals(there.gradients))
try:
    fishertail.analyse_run(model, {0: "missing.pt"}, *samples, **options, **slurm)
except fishertail.errors.WorkerError as error:
    print(error)
"""
