"""What becomes of jobs, from submission or adoption to success or failure: step by step, waiting for nothing."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.ledger import Entry, Ledger, write
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Queued, Scheduler, State
from snakemake_executor_plugin_queue.script import script

LOST = 120.0  # seconds for which neither queue nor accounting nor an exit code may know a job: file systems may be late
_GONE = 20.0  # seconds after which one that has not started is kept from it
_AGAIN = 30.0  # seconds after which a job is cancelled again that is still in the queue
_SUBMITTING = 3.0  # seconds after which jobs that have ended are reported before more are submitted
_PAUSE = 10.0  # seconds after which a scheduler that takes no job is asked again


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    succeeded: bool
    why: str = ""


@dataclass
class Task:
    """A job that Snakemake wants, and how far it has come."""

    request: Request
    work: str  # Snakemake's script
    outputs: list[str]
    logs: Path
    entry: Entry | None = None  # once it is submitted or adopted
    before: Entry | None = None  # an earlier submission for the same outputs, until it is settled
    outcome: Outcome | None = None
    final: bool = False  # its failure would come again
    known: bool = False  # `before` has been looked up
    since: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> Entry | None:
        """What the scheduler may have of it."""
        return (self.entry or self.before) if self.outcome is None else None


class Watch:
    """The scheduler's side of the executor; one thread uses it at a time."""

    def __init__(
        self,
        scheduler: Scheduler,
        site,
        ledger: Ledger,
        *,
        interval: float,
        latency: float,
        inform: Callable[..., None],
    ):
        self._scheduler, self._site, self._ledger, self._inform = scheduler, site, ledger, inform
        self._interval, self._latency = interval, latency
        self._codes: dict[str, int] = {}
        self._queue: dict[str, Queued] | None = None  # the scheduler's last answer
        self._asked = -float("inf")  # when it was asked
        self._records: dict[str, Queued] = {}  # of jobs that the queue does not name, by token
        self._records_are_known = True  # whether accounting answered
        self._missed: dict[str, float] = {}  # since when nobody knows of a job, by token
        self._cancelled: dict[str, float] = {}  # when last, by token
        self._submitted: dict[str, float] = {}  # when, by token
        self._next_query = 0.0
        self._next_submission = 0.0
        self._is_away = False
        self.polls, self.seconds = 0, 0.0

    def look(self, tasks: list[Task], stopping: Callable[[], bool] = lambda: False) -> bool:
        """Take each task as far as it goes now; gives whether some are left to be submitted, which may take long."""
        started, deadline, is_left = time.thread_time(), time.monotonic() + _SUBMITTING, False
        polls = self.polls
        self._codes = self._ledger.exit_codes()
        for task in tasks:
            if not task.known:
                task.before, task.known = self._ledger.entry(task.request.key), True
        self._ask([entry for task in tasks if (entry := task.entry or task.before) is not None])
        for task in tasks:
            if stopping():
                break
            if task.entry is None and time.monotonic() > deadline:
                is_left = True
            elif task.entry is None and task.outcome is None and self._is_clear(task):
                self._submit(task)
            elif task.entry is not None and task.outcome is None:
                task.outcome = self._outcome(task)
        if self.polls > polls:
            self.seconds += time.thread_time() - started
        return is_left

    def cancel(self, entries: Iterable[Entry]) -> None:
        """End jobs, none of which is then adopted; one whose submission was not answered is kept from starting.

        Raises:
            Unanswered: the scheduler did not answer.
        """
        doomed = []
        for entry in entries:
            entry.job = entry.job or self._ledger.fence(entry) or ""
            entry.cancelled = True
            self._ledger.note(entry)
            if entry.job:
                doomed.append(entry)
        if doomed:
            self._scheduler.cancel([entry.job for entry in doomed])
        self._cancelled |= {entry.token: time.monotonic() for entry in doomed}

    # ---- what the scheduler says -----------------------------------------------------------------------------------

    def _ask(self, entries: list[Entry]) -> None:
        """One query for all jobs that have left no exit code, and one of accounting for those that it does not name."""
        open_ones = [entry for entry in entries if entry.token not in self._codes]
        now = time.monotonic()
        if not open_ones or now < self._next_query:
            return
        self._next_query = now + self._interval
        self.polls += 1
        try:
            self._queue = self._scheduler.queue()
            self._asked = now
            self._records_are_known = False
            absent = [
                entry for entry in open_ones if entry.job and self._is_asked_for(entry) and not self._found(entry)
            ]
            self._records = self._recorded(absent) if absent else {}
            self._records_are_known = True
        except (Unanswered, Refused) as error:
            self._away(error)
            return
        if self._is_away:
            self._is_away = False
            self._inform("info", "the scheduler answers again", once="scheduler")

    def _away(self, error: Exception) -> None:
        self._is_away = True
        self._inform("warning", f"waiting for the scheduler, which does not answer: {error}", once="scheduler")

    def _recorded(self, entries: list[Entry]) -> dict[str, Queued]:
        """What accounting knows of jobs, by token; of those that have left an exit code meanwhile it is not asked."""
        self._codes |= self._ledger.exit_codes()
        absent = [entry for entry in entries if entry.token not in self._codes]
        found = self._scheduler.ended([entry.job for entry in absent]) if absent else {}
        return {entry.token: found[entry.job] for entry in absent if _is(found.get(entry.job), entry)}

    def _is_asked_for(self, entry: Entry) -> bool:
        """Whether the last answer is younger than a submission."""
        return self._asked > self._submitted.get(entry.token, -float("inf"))

    def _found(self, entry: Entry) -> Queued | None:
        """A job as the last answer has it: by number and name, since numbers come again."""
        found = (self._queue or {}).get(entry.job)
        return found if _is(found, entry) else None

    def _verdict(self, entry: Entry) -> Outcome | None:
        """How a job ended; None while it may still run."""
        code = self._codes.get(entry.token)
        if code == 0:
            return Outcome(True)
        found = self._found(entry) if self._queue is not None else None
        found = found or self._records.get(entry.token)
        if code is not None:
            scheduler_knows = found is not None and found.state is State.FAILED and code > 1
            return Outcome(False, found.why if scheduler_knows else f"exit code {code}")
        if self._queue is None or not self._is_asked_for(entry):
            return None
        if found is None:
            return self._lost(entry)
        self._missed.pop(entry.token, None)
        if found.state is State.STUCK:
            self._try_to_cancel(entry)
            return Outcome(False, found.why)
        return {State.LIVE: None, State.DONE: Outcome(True), State.FAILED: Outcome(False, found.why)}[found.state]

    def _lost(self, entry: Entry) -> Outcome | None:
        """Of a job that nobody knows. It is gone if it never started, and never will; else files may be late."""
        if not self._records_are_known:
            return None
        missed = self._asked - self._missed.setdefault(entry.token, self._asked)
        if missed >= _GONE and not self._ledger.started(entry).exists() and self._ledger.fence(entry) is None:
            return Outcome(False, "it left the queue without having started")
        if missed < LOST or not self._try_to_cancel(entry):  # what might still run
            return None
        return Outcome(
            False, f"lost: for {LOST:.0f} s neither in the queue nor in accounting, and without an exit code"
        )

    def _try_to_cancel(self, entry: Entry) -> bool:
        try:
            self.cancel([entry])
        except (Unanswered, Refused) as error:
            self._away(error)
            return False
        return True

    # ---- what is done ----------------------------------------------------------------------------------------------

    def _outcome(self, task: Task) -> Outcome | None:
        outcome = self._verdict(task.entry)
        if outcome is not None and not outcome.succeeded:
            task.final = self._ledger.final(task.entry).exists()
        return outcome

    def _is_clear(self, task: Task) -> bool:
        """Whether a job may be submitted: no earlier one for its outputs is left, nor was one adopted."""
        left = task.before
        if left is None:
            return True
        if not left.job and left.token not in self._codes and not self._identified(left):
            if self._queue is None or not self._is_asked_for(left):
                return False
            left.job = self._ledger.fence(left) or ""
            if not left.job:  # it has not started, and never will
                return self._settled(task)
        if left.cancelled and self._queue is not None and self._is_asked_for(left) and not self._found(left):
            return self._settled(task)
        same = left.stamp == task.request.stamp and not left.cancelled
        verdict = self._verdict(left)
        if verdict is None:
            if self._found(left) and same:
                self._adopt(task, "is still in the queue")
            elif self._found(left) and time.monotonic() - self._cancelled.get(left.token, -_AGAIN) >= _AGAIN:
                why = "was cancelled" if left.cancelled else "has other parameters, inputs or code"
                self._inform("info", f"{task.request.name}: job {left.job} {why}, and is ended first")
                self._try_to_cancel(left)  # it would write the same files
            return False
        if verdict.succeeded and same:
            if all(os.path.lexists(output) for output in task.outputs):
                self._adopt(task, "has ended")
                task.outcome = verdict
                return False
            if time.monotonic() - task.since < self._latency:  # a shared file system may show them late
                return False
        return self._settled(task)

    def _settled(self, task: Task) -> bool:
        self._ledger.forget(task.before)
        task.before = None
        return True

    def _identified(self, entry: Entry) -> bool:
        """By its name, a job whose submission was not answered."""
        for job, found in (self._queue or {}).items():
            if found.name == entry.name:
                entry.job = job
                self._ledger.note(entry)
                return True
        return False

    def _adopt(self, task: Task, how: str) -> None:
        task.entry, task.before = task.before, None
        self._inform("info", f"{task.request.name}: adopted job {task.entry.job}, which {how}.")

    def _submit(self, task: Task) -> None:
        if time.monotonic() < self._next_submission:
            return
        request = task.request
        entry = Entry(request.key, request.stamp, name="", log="")
        entry.name = f"{request.name}.{entry.token[:8]}"
        entry.log = str(task.logs / f"{entry.name}.log")
        path = self._ledger.script(entry)
        write(path, script(task.work, entry, self._ledger, self._site, self._scheduler.OWN_ID))
        self._ledger.note(entry)  # before the scheduler hears of it: whatever happens, the next start knows
        self._submitted[entry.token] = time.monotonic()
        try:
            entry.job = self._scheduler.submit(request, self._site, entry.name, str(path), entry.log)
        except Unanswered as error:
            task.before = entry  # it may have been heard all the same
            self._next_submission = time.monotonic() + _PAUSE
            self._next_query = min(self._next_query, self._next_submission)
            self._away(error)
            return
        except Busy as error:
            self._ledger.forget(entry)
            self._next_submission = time.monotonic() + _PAUSE
            self._inform("warning", f"waiting until the scheduler takes more jobs: {error}", once="busy")
            return
        except Refused as error:
            self._ledger.forget(entry)
            task.final, task.outcome = True, Outcome(False, f"refused: {error}")
            return
        self._ledger.note(entry)
        self._submitted[entry.token] = time.monotonic()
        self._next_query = max(self._next_query, time.monotonic() + min(self._interval, 2.0))
        task.entry = entry
        self._inform("info", f"{request.name}: submitted as job {entry.job}, log: {entry.log}")


def _is(found: Queued | None, entry: Entry) -> bool:
    return found is not None and found.name == entry.name
