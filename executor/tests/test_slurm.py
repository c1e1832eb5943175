"""The behaviour on a real Slurm."""

import time

import pytest
from behaviour import Behaviour, one_gpu, seconds, spans
from login import wait_for

pytestmark = pytest.mark.slow
SCHEDULER = "slurm"


class TestSlurm(Behaviour):
    def test_one_gpu_jobs_have_each_their_own_and_the_fifth_goes_to_the_second_node(self, login):
        assert {node for _, node, _, _ in self.five_jobs(login)} == {"tn0", "tn1"}

    def test_the_jobs_of_a_node_that_is_gone_are_run_on_another(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(10))
        part = login.path / "out/one_gpu0.txt.part"
        wait_for(lambda: part.exists() and part.read_text(), 60, "the job")
        node = part.read_text().split()[1]
        scheduler.stop_node(node)
        try:
            output = login.end(process, seconds=240)
            assert "its node failed" in output
            assert spans(login, 1)[0][1] != node
        finally:
            scheduler.start_node(node)
            wait_for(scheduler.is_idle, 60, "the node")

    def test_a_preempted_job_is_tried_again(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(20))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        urgent = "--partition=urgent --gres=gpu:4 --time=1 --mem=100"
        for _ in range(2):  # one for each node
            scheduler.run("sbatch", *urgent.split(), "--output=/dev/null", "--wrap", "sleep 8")
        output = login.end(process)
        assert "one_gpu.0: preempted" in output
        assert login.executions() == ["0"]

    def test_a_closed_partition_is_waited_for(self, login, scheduler):
        scheduler.run("scontrol", "update", "partition=gpu", "state=drain")
        try:
            process = login.start(*one_gpu(0), *seconds(1))
            wait_for(lambda: "waiting until the scheduler takes more jobs" in login.output(), 60, "the sentence")
        finally:
            scheduler.run("scontrol", "update", "partition=gpu", "state=up")
        login.end(process)
        assert login.executions() == ["0"]

    @pytest.mark.long
    def test_a_daemon_of_a_node_that_is_away_is_waited_for(self, login, scheduler):
        process = login.start(*one_gpu(0), *seconds(8))
        part = login.path / "out/one_gpu0.txt.part"
        wait_for(lambda: part.exists() and part.read_text(), 60, "the job")
        node = part.read_text().split()[1]
        scheduler.stop_node(node, jobs=False)
        time.sleep(5)
        scheduler.start_node(node)
        login.end(process)
        assert login.executions() == ["0"]
