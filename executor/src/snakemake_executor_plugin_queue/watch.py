"""Takes jobs from submission or adoption to success or failure, step by step and without blocking."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_plugin_queue.errors import Busy, Refused, Unanswered
from snakemake_executor_plugin_queue.ledger import Entry, Ledger, write
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Queued, Scheduler, State, Submission
from snakemake_executor_plugin_queue.script import script

if TYPE_CHECKING:  # it imports pydantic
    from snakemake_executor_plugin_queue.site import Site

LOST = 120.0  # seconds without a trace in queue, accounting and exit codes, since a shared file system may be late
_GONE = 20.0  # the same for a job that has not started, after which it is kept from starting
_AGAIN = 30.0  # seconds after which a job still in the queue is cancelled again
_SUBMITTING = 3.0  # seconds of submitting, after which jobs that have ended are reported first
_PAUSE = 10.0  # seconds until a scheduler that accepts no jobs is tried again


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    succeeded: bool
    why: str = ""


@dataclass
class Task:
    """A job that Snakemake wants done, and its progress."""

    request: Request
    work: str  # Snakemake's script
    outputs: list[str]
    forced: bool = False  # by the user, so that no ended job is adopted
    entry: Entry | None = None  # once submitted or adopted
    before: list[Entry] = field(default_factory=list)  # earlier submissions for any of its outputs, until settled
    outcome: Outcome | None = None
    final: bool = False  # whether its failure would happen again
    ended: float | None = None  # when an adoptable job was first seen to have ended

    @property
    def left(self) -> list[Entry]:
        """The submissions of it that the scheduler may have."""
        return [] if self.outcome else [self.entry] if self.entry else self.before


class Watch:
    """The scheduler's side of the executor. Only one thread may use it at a time."""

    def __init__(
        self,
        scheduler: Scheduler,
        site: "Site",
        ledger: Ledger,
        *,
        logs: Path,
        interval: float,
        latency: float,
        inform: Callable[..., None],
    ) -> None:
        self._scheduler, self._site, self._ledger, self._logs = scheduler, site, ledger, logs
        self._interval, self._latency, self._inform = interval, latency, inform
        self._codes: dict[str, int] = {}
        self._queue: dict[str, Queued] | None = None  # the scheduler's last answer
        self._asked = -float("inf")  # when that was asked for
        self._records: dict[str, Queued] = {}  # by token, of jobs that the queue does not name
        self._records_are_known = True  # whether accounting answered
        self._missed: dict[str, float] = {}  # by token, since when a job is nowhere to be found
        self._cancelled: dict[str, float] = {}  # by token, when last
        self._submitted: dict[str, float] = {}  # by token, when
        self._next_query = 0.0
        self._next_submission = 0.0
        self._is_away = False

    def look(self, tasks: list[Task], stopping: Callable[[], bool] = lambda: False) -> bool:
        """Take each task as far as it can go now.

        Returns:
            Whether tasks are left to be submitted, which can take long.
        """
        self._codes = self._ledger.exit_codes()
        self._ask([entry for task in tasks for entry in task.left])
        deadline, is_left = time.monotonic() + _SUBMITTING, False
        for task in tasks:
            if stopping():
                break
            try:
                if task.entry is not None:
                    task.outcome = task.outcome or self._outcome(task, task.entry)
                elif task.outcome is None and time.monotonic() > deadline:
                    is_left = True
                elif task.outcome is None and self._is_clear(task):
                    self._submit(task)
            except OSError as error:  # for example a full disk: the other tasks go on
                self._inform("error", f"{task.request.name}: {error}; it will be tried again", once="file")
        return is_left

    def cancel(self, entries: Iterable[Entry]) -> None:
        """End jobs, so that none is adopted later. A job whose submission was not answered is kept from starting.

        Raises:
            Unanswered: the scheduler did not answer.
        """
        doomed, codes = [], self._ledger.exit_codes()
        for entry in entries:
            if entry.token in codes:  # it has ended, and the next start adopts it
                continue
            if not entry.job and not self._identified(entry):
                entry.job = self._ledger.fence(entry) or ""
            entry.cancelled = True
            self._ledger.note(entry)
            of_that_number = (self._queue or {}).get(entry.job)
            if entry.job and (of_that_number is None or _is(of_that_number, entry)):
                doomed.append(entry)
        if doomed:
            self._scheduler.cancel([entry.job for entry in doomed])
        self._cancelled |= {entry.token: time.monotonic() for entry in doomed}

    # ---- what the scheduler says -----------------------------------------------------------------------------------

    def _ask(self, entries: list[Entry]) -> None:
        """Ask the queue once about all jobs without an exit code, and accounting about those missing from the queue."""
        open_ones = [entry for entry in entries if entry.token not in self._codes]
        now = time.monotonic()
        if not open_ones or now < self._next_query:
            return
        self._next_query = now + self._interval
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
        """How jobs ended according to accounting, by token; not asked about those that have an exit code by now."""
        self._codes |= self._ledger.exit_codes()
        absent = [entry for entry in entries if entry.token not in self._codes]
        try:
            found = self._scheduler.ended([entry.job for entry in absent]) if absent else {}
        except Refused:  # this site has no accounting
            found = {}
        # a job that runs only according to accounting is a runaway
        ended = {job: each for job, each in found.items() if each.state is not State.LIVE}
        return {entry.token: ended[entry.job] for entry in absent if _is(ended.get(entry.job), entry)}

    def _is_asked_for(self, entry: Entry) -> bool:
        """Whether the last query was made after the submission."""
        return self._asked > self._submitted.get(entry.token, -float("inf"))

    def _found(self, entry: Entry) -> Queued | None:
        """A job in the last answer, by number and name, since numbers are reused."""
        found = (self._queue or {}).get(entry.job)
        return found if _is(found, entry) else None

    def _verdict(self, entry: Entry) -> Outcome | None:
        """How a job ended, or None while it may still run."""
        code = self._codes.get(entry.token)
        if code == 0:
            return Outcome(True)
        found = self._found(entry) or self._records.get(entry.token)
        if code is not None:
            if found is not None and found.state is State.FAILED and code > 1:  # 1 is a rule that failed
                return Outcome(False, found.why)
            return Outcome(False, f"exit code {code}")
        if self._queue is None or not self._is_asked_for(entry):
            return None
        if found is None:
            return self._lost(entry)
        self._missed.pop(entry.token, None)
        if found.state is State.STUCK:
            why = found.why or self._scheduler.reason(entry.job)
            return Outcome(False, why) if self._try_to_cancel(entry) else None
        return {State.LIVE: None, State.DONE: Outcome(True), State.FAILED: Outcome(False, found.why)}[found.state]

    def _lost(self, entry: Entry) -> Outcome | None:
        """The outcome of a job that is nowhere to be found, or None while its files may be late.

        A job that has not started is kept from starting, and is then gone.
        """
        if not self._records_are_known:
            return None
        missed = self._asked - self._missed.setdefault(entry.token, self._asked)
        if missed >= _GONE and not self._ledger.started(entry).exists() and self._ledger.fence(entry) is None:
            return Outcome(False, "it left the queue without having started")
        if missed < LOST or not self._try_to_cancel(entry):  # it might still be running
            return None
        why = f"lost: for {LOST:.0f} s neither in the queue nor in accounting, and without an exit code"
        return Outcome(False, why)

    def _try_to_cancel(self, entry: Entry) -> bool:
        try:
            self.cancel([entry])
        except (Unanswered, Refused) as error:
            self._away(error)
            return False
        return True

    # ---- what is done ----------------------------------------------------------------------------------------------

    def _outcome(self, task: Task, entry: Entry) -> Outcome | None:
        outcome = self._verdict(entry)
        if outcome is not None and not outcome.succeeded:
            task.final = self._ledger.final(entry).exists()
        return outcome

    def _is_clear(self, task: Task) -> bool:
        """Whether a job may be submitted: no earlier job for its outputs is left, and none was adopted."""
        for left in list(task.before):
            if task.entry is None and self._is_settled(task, left):
                self._ledger.forget(left)
                task.before.remove(left)
        return task.entry is None and not task.before

    def _is_settled(self, task: Task, left: Entry) -> bool:
        """Whether an earlier job for outputs of this one has ended and cannot be adopted."""
        if not left.job and left.token not in self._codes and not self._identified(left):
            if self._queue is None or not self._is_asked_for(left):
                return False
            left.job = self._ledger.fence(left) or ""
            if not left.job:  # it has not started, and will not
                return True
        if left.cancelled and self._queue is not None and self._is_asked_for(left) and not self._found(left):
            return True
        same = (left.key, left.stamp) == (task.request.key, task.request.stamp) and not left.cancelled
        verdict = self._verdict(left)
        if verdict is None:
            if self._found(left) and same:
                self._adopt(task, left, "is still in the queue")
            elif self._found(left) and time.monotonic() - self._cancelled.get(left.token, -_AGAIN) >= _AGAIN:
                why = "was cancelled" if left.cancelled else "has other outputs, parameters, inputs or code"
                self._inform("info", f"{task.request.name}: job {left.job} {why}, and is ended first")
                self._try_to_cancel(left)  # it would write the same files
            return False
        if verdict.succeeded and same and not task.forced:
            if all(os.path.lexists(output) for output in task.outputs):
                self._adopt(task, left, "has ended")
                task.outcome = verdict
                return False
            task.ended = task.ended or time.monotonic()
            return time.monotonic() - task.ended >= self._latency  # on a shared file system they may appear late
        return True

    def _identified(self, entry: Entry) -> bool:
        """Find a job whose submission was not answered, by its name."""
        for job, found in (self._queue or {}).items():
            if found.name == entry.name:
                entry.job = job
                self._ledger.note(entry)
                return True
        return False

    def _adopt(self, task: Task, entry: Entry, how: str) -> None:
        task.entry = entry
        self._inform("info", f"{task.request.name}: adopted job {entry.job or entry.name}, which {how}.")

    def _submit(self, task: Task) -> None:
        if time.monotonic() < self._next_submission:
            return
        request = task.request
        entry = Entry(request.key, request.stamp, name="", log="", outputs=task.outputs)
        entry.name = f"{request.name}.{entry.token[:8]}"
        entry.log = str(self._logs / f"{entry.name}.log")
        path = self._ledger.script(entry)
        write(path, script(task.work, entry, self._ledger, self._site, self._scheduler.OWN_ID))
        self._ledger.note(entry)  # before the scheduler gets it, so that the next start knows whatever happens
        self._submitted[entry.token] = time.monotonic()
        task.before = [entry]  # until an answer comes: the scheduler may have it all the same
        try:
            entry.job = self._scheduler.submit(Submission(request, self._site, entry.name, str(path), entry.log))
        except Unanswered as error:
            self._next_submission = time.monotonic() + _PAUSE
            self._away(error)
            return
        except (Busy, Refused) as error:
            self._ledger.forget(entry)
            task.before = []
            if isinstance(error, Busy):
                self._next_submission = time.monotonic() + _PAUSE
                self._inform("warning", f"waiting until the scheduler takes more jobs: {error}", once="busy")
            else:
                task.final, task.outcome = True, Outcome(False, f"refused: {error}")
            return
        task.entry, task.before = entry, []
        self._submitted[entry.token] = time.monotonic()
        self._ledger.note(entry)
        self._inform("info", f"{request.name}: submitted as job {entry.job}, log: {entry.log}")


def _is(found: Queued | None, entry: Entry) -> bool:
    return found is not None and found.name == entry.name
