"""Recorded answers of Grid Engine's and Slurm's programs, and how they are read."""

import pytest
from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.programs import Answer
from snakemake_executor_plugin_queue.schedulers import Queued, State, base, gridengine, make

QSTAT = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>32</JB_job_number>
      <JB_name>train.mnist-fc-16-0.12345678</JB_name>
      <state>r</state>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>35</JB_job_number>
      <JB_name>train.2</JB_name>
      <state>Eqw</state>
    </job_list>
    <job_list state="pending">
      <JB_job_number>36</JB_job_number>
      <JB_name>train.3</JB_name>
      <state>qw</state>
    </job_list>
  </job_info>
</job_info>
"""
QACCT = """==============================================================
jobname      train.1
jobnumber    9
failed       {failed}
exit_status  {exit_status}
"""


def test_the_queue_of_grid_engine():
    assert gridengine.parse_queue(QSTAT) == {
        "32": Queued("train.mnist-fc-16-0.12345678", State.LIVE),
        "35": Queued("train.2", State.STUCK),
        "36": Queued("train.3", State.LIVE),
    }
    with pytest.raises(Unanswered):
        gridengine.parse_queue("")


@pytest.mark.parametrize(
    ("failed", "exit_status", "state", "why"),
    [
        ("0    ", "0                   ", State.DONE, ""),
        ("0    ", "1                   ", State.FAILED, "exit code 1"),
        ("37  : qmaster enforced h_rt limit", "137    (Killed)", State.FAILED, "qmaster enforced h_rt limit"),
        ("100 : assumedly after job", "137        (Killed)", State.FAILED, "assumedly after job"),
    ],
)
def test_the_accounting_of_grid_engine(failed, exit_status, state, why):
    record = QACCT.format(failed=failed, exit_status=exit_status)
    older = QACCT.format(failed="0", exit_status="0")
    assert gridengine.parse_accounting(older + record) == Queued("train.1", state, why)  # numbers wrap round


def test_accounting_that_does_not_know_a_job():
    assert gridengine.parse_accounting("error: job id 99999 not found") is None


@pytest.mark.parametrize(
    ("state", "found", "why"),
    [
        ("PENDING", State.LIVE, ""),
        ("COMPLETING", State.LIVE, ""),
        ("A_STATE_TO_COME", State.LIVE, ""),  # better to wait than to run it twice
        ("COMPLETED", State.DONE, ""),
        ("CANCELLED by 1000", State.FAILED, "cancelled"),
        ("TIMEOUT", State.FAILED, "walltime exceeded"),
        ("PREEMPTED", State.FAILED, "preempted"),
        ("NODE_FAIL", State.FAILED, "its node failed"),
        ("OUT_OF_MEMORY", State.FAILED, "out of memory"),
    ],
)
def test_the_states_of_slurm(monkeypatch, state, found, why):
    monkeypatch.setattr(base, "call", lambda command, withheld: Answer(0, f"12|{state}|train.1\n"))
    assert make("slurm").queue() == {"12": Queued("train.1", found, why)}


@pytest.mark.parametrize(
    ("words", "known"),
    [("Slurm accounting storage is disabled", True), ("sacct: error: slurmdbd: Connection refused", False)],
)
def test_accounting_that_a_site_has_not_is_no_outage(monkeypatch, words, known):
    monkeypatch.setattr(base, "call", lambda command, withheld: Answer(1, "", words))
    if known:
        assert make("slurm").ended(["1"]) == {}
    else:
        with pytest.raises(Unanswered):
            make("slurm").ended(["1"])


@pytest.mark.parametrize(
    ("scheduler", "output", "job"),
    [
        ("gridengine", "Welcome\n32\n", "32"),
        ("gridengine", "no number", None),
        ("slurm", "32\n", "32"),
        ("slurm", "32;cluster\n", "32"),
        ("slurm", "sbatch: refused\n", None),
    ],
)
def test_numbers_of_jobs(scheduler, output, job):
    assert make(scheduler).job_id(output) == job
