"""Jobs when answers are late, wrong or missing: their work is done once, and none is lost."""

import time

import pytest
from in_memory import done, look, task
from snakemake_executor_plugin_queue import watch
from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.ledger import Ledger
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Queued, State
from snakemake_executor_plugin_queue.site import Site
from snakemake_executor_plugin_queue.watch import Task


def _unanswered(*_):
    raise Unanswered("away")


def _refused(*_):
    raise Refused("sacct is not on PATH")


def _full_disk():
    raise OSError(28, "No space left on device")


def test_a_job_is_submitted_watched_and_ends(queue, start):
    watched, job = start(), task()
    look(watched, job, times=3)
    assert (job.entry.job, job.outcome) == ("1", None)
    queue.run("1")
    look(watched, job)
    assert job.outcome.succeeded
    assert done() == ["done"]


def test_a_job_that_fails_has_its_exit_code(queue, start):
    watched, job = start(), task(work="exit 7")
    look(watched, job)
    queue.run("1")
    look(watched, job)
    assert (job.outcome.succeeded, job.outcome.why, job.final) == (False, "exit code 7", False)


def test_a_job_says_that_it_would_fail_again(queue, start):
    watched, job = start(), task(work="touch $SNAKEMAKE_QUEUE_FINAL; exit 1")
    look(watched, job)
    queue.run("1")
    look(watched, job)
    assert job.final


def test_a_job_that_an_answer_lacks_is_not_failed(queue, start, monkeypatch):
    monkeypatch.setattr(watch, "LOST", 120.0)
    watched, job = start(), task()
    look(watched, job)
    known = queue.jobs.pop("1")
    Ledger().started(job.entry).mkdir()
    look(watched, job, times=5)
    assert job.outcome is None
    queue.jobs["1"] = known
    look(watched, job)
    assert (job.outcome, queue.cancelled, len(queue.scripts)) == (None, [], 1)


def test_a_lost_job_is_cancelled_before_it_is_called_lost(queue, start):
    watched, job = start(), task()
    look(watched, job)
    queue.jobs.clear()
    Ledger().started(job.entry).mkdir()
    look(watched, job, times=2)
    assert job.outcome.why.startswith("lost: ")
    assert queue.cancelled == ["1"]


@pytest.mark.parametrize("of", ["queue", "accounting"])
def test_a_scheduler_that_does_not_answer_has_lost_nothing(queue, start, of):
    watched, job = start(), task()
    look(watched, job)
    queue.jobs.clear()
    queue.is_away, queue.accounting_is_away = of == "queue", of == "accounting"
    look(watched, job, times=5)
    assert job.outcome is None
    assert start.said[-1].startswith("waiting for the scheduler")
    queue.is_away = queue.accounting_is_away = False
    queue.records["1"] = Queued(job.entry.name, State.FAILED, "walltime exceeded")
    look(watched, job)
    assert job.outcome.why == "walltime exceeded"
    assert start.said[-1] == "the scheduler answers again"


def test_a_job_that_was_deleted_while_it_waited_never_starts(queue, start):
    watched, job = start(), task()
    look(watched, job)
    queue.jobs.clear()
    look(watched, job, times=2)
    assert job.outcome.why == "it left the queue without having started"
    queue.run("1")
    assert done() == []


def test_another_job_of_the_same_number_is_not_ours(queue, start):
    watched, job = start(), task()
    look(watched, job)
    Ledger().started(job.entry).mkdir()
    queue.jobs["1"] = Queued("somebody.else", State.LIVE)
    look(watched, job, times=2)
    assert job.outcome.why.startswith("lost: ")
    assert queue.cancelled == []


def test_a_stuck_job_is_cancelled_and_says_why(queue, start):
    watched, job = start(), task()
    look(watched, job)
    queue.jobs["1"] = Queued(job.entry.name, State.STUCK, "no such folder")
    look(watched, job)
    assert (job.outcome.why, queue.cancelled) == ("no such folder", ["1"])


def test_a_stuck_job_that_could_not_be_cancelled_is_not_failed(queue, start, monkeypatch):
    watched, job = start(), task()
    look(watched, job)
    queue.jobs["1"] = Queued(job.entry.name, State.STUCK, "no such folder")
    monkeypatch.setattr(queue, "cancel", _unanswered)
    look(watched, job)
    assert job.outcome is None


def test_a_site_without_the_program_of_accounting_waits_for_nothing(queue, start, monkeypatch):
    watched, job = start(), task()
    look(watched, job)
    Ledger().started(job.entry).mkdir()
    queue.jobs.clear()
    monkeypatch.setattr(queue, "ended", _refused)
    look(watched, job, times=2)
    assert job.outcome.why.startswith("lost: ")


def test_a_job_that_runs_for_accounting_alone_is_lost(queue, start):
    watched, job = start(), task()
    look(watched, job)
    Ledger().started(job.entry).mkdir()
    queue.jobs.clear()
    queue.records["1"] = Queued(job.entry.name, State.LIVE)
    look(watched, job, times=2)
    assert job.outcome.why.startswith("lost: ")


def test_a_full_disk_after_a_submission_submits_nothing_twice(queue, start, monkeypatch):
    watched, job = start(), task()
    note, noted = Ledger.note, []

    def note_once(self, entry):
        noted.append(entry)
        if len(noted) == 2:
            raise OSError(28, "No space left on device")
        note(self, entry)

    monkeypatch.setattr(Ledger, "note", note_once)
    look(watched, job, times=3)
    assert job.entry.job == "1"
    assert len(queue.scripts) == 1


def test_a_job_with_a_fault_does_not_hold_up_the_others(queue, start, monkeypatch):
    watched, job = start(), task()
    other = Task(Request("other.1", "other", "stamp", 1, 1, 10, None), "true", ["else"])
    note = Ledger.note
    monkeypatch.setattr(Ledger, "note", lambda self, entry: _full_disk() if entry.key == "key" else note(self, entry))
    look(watched, job, other)
    assert (job.entry, other.entry.job) == (None, "1")


def test_an_entry_that_cannot_be_read_is_not_taken_for_none(queue, start):
    look(start(), task())
    (path,) = Ledger().scripts.parent.joinpath("entries").iterdir()
    path.write_text("half of it")
    with pytest.raises(ValueError, match="Expecting value"):
        Ledger().entries()


def test_a_slow_answer_keeps_nothing_from_being_submitted(queue, start, monkeypatch):
    monkeypatch.setattr(watch, "_SUBMITTING", 0.05)
    look(start(), task())
    answer = queue.queue
    monkeypatch.setattr(queue, "queue", lambda: time.sleep(0.1) or answer())
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.entry.job == "1"


def test_a_limit_is_waited_for_and_a_refusal_is_final(queue, start):
    queue.faults = [Busy("only 2 jobs"), Busy("only 2 jobs"), Refused("no such queue")]
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.outcome is None
    assert start.said[-1] == "waiting until the scheduler takes more jobs: only 2 jobs"
    look(watched, job)
    assert (job.outcome.why, job.final) == ("refused: no such queue", True)


def test_a_missing_module_is_shown_once_and_is_final(queue, start, tmp_path):
    watched, job = start(), task()
    watched._site = Site(scheduler="slurm", account_required=False, modules=["none"])
    look(watched, job)
    queue.run("1")
    look(watched, job)
    assert (job.outcome.why, job.final) == ("exit code 1", True)


def test_scratch(queue, start, tmp_path):
    watched, job = start(), task(work='echo "$TMPDIR" > work')
    watched._site = Site(scheduler="slurm", account_required=False, scratch=f"{tmp_path}/$JOB_ID")
    (tmp_path / "1").mkdir()
    look(watched, job)
    queue.run("1")
    assert done() == [f"{tmp_path}/1"]
