"""What is promised, on a real Grid Engine with TSUBAME's resource types."""

import signal
import time

import pytest

from tests.schedulers.behaviour import Behaviour, most_at_once, one_gpu_jobs, spans
from tests.schedulers.loopback import wait_for

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SCHEDULER = "gridengine"


class TestGridEngine(Behaviour):
    def test_one_gpu_jobs_have_each_their_own_and_the_fifth_waits(self, login, scheduler):
        jobs = sorted(self.five_jobs(login), key=lambda job: job[2])
        assert most_at_once(jobs) == 4
        assert jobs[4][2] > min(job[3] for job in jobs[:4])
        assert "tga-test" in (scheduler.state / "groups.log").read_text()

    def test_four_jobs_share_a_whole_node(self, login, scheduler):
        """In one submission, at the same time, each on a GPU of its own."""
        login.set(cluster={"whole_nodes": True, "resource_types": {4: "node_f=1"}})
        output = login.jobs(*one_gpu_jobs(4), seconds=25)
        jobs = spans(login, 4)
        assert most_at_once(jobs) == 4
        assert sorted(gpu for gpu, *_ in jobs) == ["0", "1", "2", "3"]
        packs = {line.split("'")[1].split(":")[1] for line in output.splitlines() if "external jobid 'pack:" in line}
        assert len(packs) == 1, output

    def test_a_member_that_fails_does_not_fail_the_others(self, login):
        login.set(cluster={"whole_nodes": True, "resource_types": {4: "node_f=1"}})
        login.jobs("out/one_gpu0.txt", "out/faulty.txt", check=False, seconds=10)
        assert (login.path / "out/one_gpu0.txt").exists()
        assert (login.path / "out/faults").read_text().split() == ["run"]

    def test_ctrl_c_ends_a_pack(self, login, scheduler):
        login.set(cluster={"whole_nodes": True, "resource_types": {4: "node_f=1"}})
        process = login.start(*login.arguments(*one_gpu_jobs(6), seconds=60))
        wait_for(lambda: len(scheduler.job_ids()) == 2, 60, "two packs")
        time.sleep(3)
        login.signal(signal.SIGINT)
        process.wait(timeout=60)
        wait_for(lambda: not scheduler.job_ids(), 30, "the end of all packs")

    def test_a_scheduler_that_does_not_answer_is_waited_for(self, login, scheduler):
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=20))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        scheduler.stop_master()
        time.sleep(30)
        scheduler.start_master()
        assert process.wait(timeout=180) == 0, (login.path / "output.log").read_text()[-4000:]
        assert login.executions() == ["0"]

    def test_a_node_whose_daemon_died_is_waited_for(self, login, scheduler):
        """Grid Engine cannot tell a dead daemon from a dead node, and keeps the job until an administrator decides."""
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=15))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        scheduler.stop_node()
        time.sleep(30)
        scheduler.start_node()
        assert process.wait(timeout=180) == 0, (login.path / "output.log").read_text()[-4000:]
        assert login.executions() == ["0"]

    def test_without_a_group_it_is_a_trial_run(self, login):
        login.set(cluster={"account": None})
        output = login.jobs("out/one_gpu0.txt", seconds=1)
        assert "no cluster.account, so this is a trial run of 2 minutes" in output

    def test_a_job_that_ended_unseen_is_recorded_and_rerun_for_other_parameters(self, login, scheduler):
        process = login.start(*login.arguments("out/one_gpu0.txt", seconds=5))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 90, "the job")
        login.signal(signal.SIGKILL)
        process.wait(timeout=30)
        wait_for(lambda: not scheduler.job_ids(), 60, "its end")
        login.run("-s", "jobs.smk", "--unlock")
        login.jobs("out/one_gpu0.txt", seconds=5)
        assert login.executions() == ["0"]
        assert "one_gpu" not in login.run("-n", *login.arguments("out/one_gpu0.txt", seconds=5))
        assert "one_gpu" in login.run("-n", *login.arguments("out/one_gpu0.txt", seconds=6))
