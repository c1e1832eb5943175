"""The behaviour on a real Grid Engine with TSUBAME's resource types."""

import time

import pytest
from behaviour import OUTAGE, Behaviour, a_limit_of_jobs_is_waited_for, most_at_once, one_gpu, seconds
from login import wait_for

pytestmark = pytest.mark.slow
SCHEDULER = "gridengine"


class TestGridEngine(Behaviour):
    def test_one_gpu_jobs_have_each_their_own_and_the_fifth_waits(self, login, scheduler):
        jobs = sorted(self.five_jobs(login), key=lambda job: job[2])
        assert most_at_once(jobs) == 4
        assert jobs[4][2] > min(job[3] for job in jobs[:4])
        assert "tga-test" in (scheduler.state / "groups.log").read_text()

    def test_a_limit_of_jobs_is_waited_for(self, login, scheduler):
        a_limit_of_jobs_is_waited_for(login, scheduler)

    @pytest.mark.long
    def test_a_node_whose_daemon_died_is_waited_for(self, login, scheduler):
        """Grid Engine cannot tell a dead daemon from a dead node, and keeps the job until an administrator decides."""
        process = login.start(*one_gpu(0), *seconds(15))
        wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
        scheduler.stop_node()
        time.sleep(OUTAGE)
        scheduler.start_node()
        login.end(process)
        assert login.executions() == ["0"]

    def test_a_job_in_an_error_state_is_deleted_and_tried_again(self, login, scheduler):
        """As when its folder is missing on a node."""
        login.set_site(options=["-o", "/no/such/folder/log"])
        output = login.run(*one_gpu(0), "--retries", "0", check=False)
        assert "one_gpu.0: " in output
        assert "/no/such/folder" in output
        assert not scheduler.job_ids()

    def test_without_a_group_it_is_a_trial_run(self, login):
        login.set_site(account=None, trial_minutes=1)
        output = login.run(*one_gpu(0), *seconds(1))
        assert "no account, so jobs are trial runs of at most 1 min" in output
