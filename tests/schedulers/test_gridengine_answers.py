"""What Grid Engine's programs answered, as recorded, and what is made of it."""

import pytest

from fishertail.clusters import gridengine

QSTAT = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
------------------------------------------------------------------------------------------------------------------
     32 0.75000 train      someone      r     11/23/2026 20:36:37 all.q@tsubame                      1
     35 0.25000 train      someone      Eqw   11/23/2026 20:36:38                                    1
     36 0.25000 train      someone      qw    11/23/2026 20:36:38                                    1
"""
QACCT = """==============================================================
jobname      train
jobnumber    9
failed       {failed}
exit_status  {exit_status}
"""


def test_states():
    assert gridengine.states(QSTAT, 0) == {"32": "running", "35": "stuck", "36": "running"}
    assert gridengine.states("", 0) == {}
    assert gridengine.states("error: unable to contact qmaster", 1) is None


@pytest.mark.parametrize(
    ("failed", "exit_status", "outcome"),
    [
        ("0    ", "0                   ", "success"),
        ("0    ", "1                   ", "failed"),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137                  (Killed)", "failed"),
        ("100 : assumedly after job", "137                  (Killed)", "failed"),
    ],
)
def test_outcomes(failed, exit_status, outcome):
    record = QACCT.format(failed=failed, exit_status=exit_status)
    assert gridengine.outcome(record, 0) == outcome
    other = QACCT.format(failed="0", exit_status="0")
    assert gridengine.outcome(other + record, 0) == outcome  # job numbers wrap round: the last record counts


def test_accounting_that_does_not_know_a_job():
    assert gridengine.outcome("error: job id 99999 not found", 1) is None


def test_reasons():
    record = QACCT.format(failed="37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", exit_status="137  (Killed)")
    assert gridengine.reason(record) == "qmaster enforced h_rt, h_cpu, or h_vmem limit"
    assert gridengine.reason(QACCT.format(failed="0", exit_status="3")) == "exit status 3"


def test_numbers_of_jobs():
    assert gridengine.job_id("Welcome\n32\n") == "32"
    assert gridengine.job_id("12.1-4:1\n") == "12"
    assert gridengine.job_id("no number") is None
