"""The behaviour on a real Slurm with an accounting database and a slurmctld that soon forgets jobs."""

import time

import pytest
from behaviour import OUTAGE, a_limit_of_jobs_is_waited_for, one_gpu, seconds
from login import wait_for

pytestmark = pytest.mark.slow
SCHEDULER = "slurm-accounting"


def test_a_limit_of_jobs_is_waited_for(login, scheduler):
    a_limit_of_jobs_is_waited_for(login, scheduler)


@pytest.mark.long
def test_accounting_knows_how_a_forgotten_job_ended(login, scheduler):
    """slurmctld forgets a job within a minute and a half of its end, before it is asked again."""
    process = login.start(*one_gpu(0), *seconds(100), "--seconds-between-status-checks", "100")
    wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
    wait_for(login.queries.exists, 60, "the first query")
    time.sleep(2)
    scheduler.cancel(scheduler.job_ids()[0])
    wait_for(lambda: not scheduler.run("squeue", "-h", "--states=all").strip(), 95, "that slurmctld forgets it")
    wait_for(lambda: "one_gpu.0: cancelled" in login.output(), 110, "what accounting says")
    login.kill(process)


@pytest.mark.long
def test_an_outage_of_the_database_while_jobs_are_submitted_run_and_end(login, scheduler):
    process = login.start(*one_gpu(0, 1), "out/chained4.txt", "out/too_slow.txt", *seconds(20))
    wait_for((login.path / "out/one_gpu0.txt.part").exists, 60, "the job")
    scheduler.stop_database()
    time.sleep(OUTAGE)
    scheduler.start_database()
    login.end(process)
    assert login.executions() == ["0", "1", *(f"chained{number}" for number in range(5))]
    assert (login.path / "out/attempts").read_text().split() == ["1", "3"]
