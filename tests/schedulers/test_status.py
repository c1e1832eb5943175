"""What is said of a job while the scheduler answers late, or not at all."""

from types import SimpleNamespace

import pytest

from fishertail.clusters import spool, status
from fishertail.clusters.request import ClusterError


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """What the scheduler says of its queue, one question after the other; the last one for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "PATIENCE", 0.2)
    monkeypatch.setattr(status, "PAUSE", 0.01)
    said = []
    monkeypatch.setattr(status, "_queue", lambda scheduler, job: said.pop(0) if len(said) > 1 else said[0])
    return said


def test_a_job_is_not_taken_for_gone_because_the_scheduler_does_not_answer(answers):
    answers += [None, None, {"7": "running"}]
    assert status.is_queued("7", None)
    answers[:] = [{}]
    assert not status.is_queued("7", None)
    answers[:] = [None]
    with pytest.raises(ClusterError, match="does not say whether job 7"):
        status.is_queued("7", None)
    assert status.status("7", None) == "running"


def test_an_exit_code_counts_before_anything_else(answers):
    answers += [{"7": "running"}]
    spool.write(spool.path("jobs", "7"), "token")
    spool.write(spool.path("exit", "token"), "3\n")
    assert status.status("7", None) == "failed"
    assert not status.is_queued("7", None)


def test_a_job_that_was_missed_once_is_given_its_time_again(answers, monkeypatch):
    late = SimpleNamespace(
        accounting_command=lambda job: ["true"], outcome=lambda output, code: None, states=lambda output, code: {}
    )
    answers += [{}]
    assert status.status("7", late) == "running"
    monkeypatch.setattr(status, "ACCOUNTING_LATE", 0.0)
    answers[:] = [{"7": "running"}]
    assert status.status("7", late) == "running"
    assert not spool.path("missed", "7").exists()
    answers[:] = [{}]
    assert status.status("7", late) == "running"
    assert status.status("7", late) == "failed"
