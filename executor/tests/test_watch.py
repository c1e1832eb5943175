"""Jobs when answers are late, wrong or missing: their work is done once, and none is lost."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from snakemake_executor_plugin_queue import watch
from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.ledger import Ledger
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Queued, Scheduler, State
from snakemake_executor_plugin_queue.site import Site
from snakemake_executor_plugin_queue.watch import Task, Watch


class Queue(Scheduler):
    """A scheduler in memory, whose answers can lack what it has."""

    OWN_ID = "$JOB_ID"
    JOB_ID, UNREACHABLE, BUSY, CANCEL, ACCOUNT = "(-)", "-", "-", "-", "-"

    def __init__(self):
        self.jobs: dict[str, Queued] = {}  # in its answer
        self.records: dict[str, Queued] = {}  # in accounting
        self.scripts: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.faults: list[Exception | None] = []  # of the coming submissions; None: it succeeds
        self.is_away = self.accounting_is_away = False

    def submit(self, submission):
        job = str(len(self.scripts) + 1)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not getattr(fault, "heard", False):
            raise fault
        self.scripts[job] = Path(submission.script).read_text()
        self.jobs[job] = Queued(submission.name, State.LIVE)
        if fault is not None:
            raise fault
        return job

    def queue(self):
        if self.is_away:
            raise Unanswered("away")
        return dict(self.jobs)

    def ended(self, ids):
        if self.accounting_is_away:
            raise Unanswered("away")
        return {job: self.records[job] for job in ids if job in self.records}

    def cancel(self, ids):
        if self.is_away:
            raise Unanswered("away")
        self.cancelled += ids

    def run(self, job: str) -> None:
        """Run a job as a node does, whether or not anyone still wants it."""
        subprocess.run(["bash", "-c", self.scripts[job]], env={"JOB_ID": job, "PATH": os.environ["PATH"]}, check=False)
        self.jobs.pop(job, None)

    submit_command = None


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def start(queue, tmp_path, monkeypatch):
    """Starts a Snakemake, that is, a `Watch` over the files that earlier ones left."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOST", "_GONE", "_PAUSE", "_AGAIN"):
        monkeypatch.setattr(watch, name, 0.0)
    said = []

    def make() -> Watch:
        inform = lambda level, text, once=None: said.append(text)  # noqa: E731
        site = Site(scheduler="slurm", account_required=False)
        return Watch(queue, site, Ledger(), logs=tmp_path, interval=0, latency=0, inform=inform)

    make.said = said
    return make


def task(stamp: str = "stamp", work: str = "echo done >> work; touch out", **changes) -> Task:
    """A task with the earlier submissions for its outputs, as the executor finds them."""
    before = [entry for entry in Ledger().entries() if "out" in entry.outputs]
    return Task(Request("train.1", "key", stamp, 1, 1, 10, None), work, ["out"], before=before, **changes)


def look(watched: Watch, *tasks: Task, times: int = 1) -> None:
    for _ in range(times):
        watched._next_query = watched._next_submission = 0
        watched.look(list(tasks))


def _unanswered(*_):
    raise Unanswered("away")


def _refused(*_):
    raise Refused("sacct is not on PATH")


def _full_disk():
    raise OSError(28, "No space left on device")


def done() -> list[str]:
    return Path("work").read_text().split() if Path("work").exists() else []


def lost_answer(*, heard: bool) -> Unanswered:
    fault = Unanswered("timed out")
    fault.heard = heard
    return fault


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


def test_a_group_that_is_put_together_otherwise_ends_the_old_ones_first(queue, start):
    old = [Task(Request(f"g.{n}", f"old{n}", "s", 1, 1, 1, None), "true", [f"o{n}", f"p{n}"]) for n in range(2)]
    look(start(), *old)
    new = Task(Request("g.new", "new", "s", 1, 1, 1, None), "true", ["o0", "o1"], before=Ledger().entries())
    watched = start()
    look(watched, new, times=3)
    assert new.entry is None
    assert set(queue.cancelled) == {"1", "2"}
    queue.jobs.clear()
    look(watched, new, times=3)
    assert new.entry.job == "3"


def test_a_forced_job_is_run_though_an_ended_one_is_the_same(queue, start):
    look(start(), task())
    queue.run("1")
    watched, job = start(), task(forced=True)
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_a_submission_that_was_heard_though_its_answer_was_lost_is_adopted(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job, times=3)
    assert job.entry.job == "1"
    assert len(queue.scripts) == 1


def test_a_submission_that_was_not_heard_is_sent_again(queue, start):
    queue.faults = [lost_answer(heard=False), lost_answer(heard=False)]
    watched, job = start(), task()
    look(watched, job, times=6)
    assert job.entry.job == "1"
    assert job.outcome is None


def test_a_submission_that_is_heard_late_does_no_work(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job)
    queue.jobs.clear()  # not visible yet
    look(watched, job, times=3)
    assert job.entry.job == "2"
    queue.run("1")
    assert done() == []
    queue.run("2")
    assert done() == ["done"]


@pytest.mark.parametrize("moment", ["waits", "runs", "has ended"])
def test_the_next_start_adopts(queue, start, moment):
    look(start(), task())
    if moment == "has ended":
        queue.run("1")
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.entry.job == "1"
    if moment != "has ended":
        queue.run("1")
        look(watched, job)
    assert job.outcome.succeeded
    assert done() == ["done"]


def test_a_job_that_ends_between_the_start_and_its_turn_is_adopted(queue, start):
    look(start(), task())
    watched, job = start(), task()
    other = Task(Request("other.1", "other", "stamp", 1, 1, 10, None), "true", ["else"])
    look(watched, other)  # the scheduler's answer still has the job
    queue.run("1")
    look(watched, job, other, times=2)
    assert job.outcome.succeeded
    assert done() == ["done"]


def test_a_job_of_other_parameters_is_ended_and_gone_before_the_new_one(queue, start):
    look(start(), task())
    watched, job = start(), task(stamp="another")
    look(watched, job, times=2)
    assert "1" in queue.cancelled
    assert job.entry is None
    del queue.jobs["1"]
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_an_ended_job_of_other_parameters_does_not_count(queue, start):
    look(start(), task())
    queue.run("1")
    watched, job = start(), task(stamp="another")
    look(watched, job)
    assert job.entry.job == "2"


def test_an_ended_job_whose_outputs_are_gone_does_not_count(queue, start):
    look(start(), task())
    queue.run("1")
    Path("out").unlink()
    watched, job = start(), task()
    look(watched, job)
    assert job.entry.job == "2"


def test_a_failed_job_of_an_earlier_start_is_run_again(queue, start):
    look(start(), task(work="exit 1"))
    queue.run("1")
    watched, job = start(), task()
    look(watched, job)
    assert job.entry.job == "2"


def test_a_cancelled_job_is_not_adopted(queue, start):
    watched, job = start(), task()
    look(watched, job)
    watched.cancel([job.entry])
    watched, job = start(), task()
    look(watched, job, times=2)
    assert job.entry is None  # it may still end
    del queue.jobs["1"]
    look(watched, job, times=2)
    assert job.entry.job == "2"


def test_a_job_that_had_ended_before_it_was_cancelled_is_adopted(queue, start):
    watched, job = start(), task()
    look(watched, job)
    queue.run("1")
    watched.cancel(job.left)
    job = task()
    look(start(), job)
    assert job.outcome.succeeded
    assert queue.cancelled == []


def test_a_cancelled_submission_without_an_answer_never_starts(queue, start):
    queue.faults = [lost_answer(heard=True)]
    watched, job = start(), task()
    look(watched, job)
    watched.cancel(job.left)
    watched.cancel(job.left)  # again, without waiting for anything
    queue.run("1")
    assert done() == []


def test_a_start_while_the_scheduler_is_away_submits_nothing_twice(queue, start):
    look(start(), task())
    queue.is_away = True
    watched, job = start(), task()
    look(watched, job, times=3)
    assert job.entry is None
    queue.is_away = False
    look(watched, job, times=2)
    assert job.entry.job == "1"


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
