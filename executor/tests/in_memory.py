"""A scheduler in memory, and jobs for it."""

import os
import subprocess
from pathlib import Path

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.ledger import Ledger
from snakemake_executor_plugin_queue.request import Request
from snakemake_executor_plugin_queue.schedulers import Queued, Scheduler, State
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


def task(stamp: str = "stamp", work: str = "echo done >> work; touch out", **changes) -> Task:
    """A task with the earlier submissions for its outputs, as the executor finds them."""
    before = [entry for entry in Ledger().entries() if "out" in entry.outputs]
    return Task(Request("train.1", "key", stamp, 1, 1, 10, None), work, ["out"], before=before, **changes)


def look(watched: Watch, *tasks: Task, times: int = 1) -> None:
    for _ in range(times):
        watched._next_query = watched._next_submission = 0
        watched.look(list(tasks))


def done() -> list[str]:
    return Path("work").read_text().split() if Path("work").exists() else []


def lost_answer(*, heard: bool) -> Unanswered:
    fault = Unanswered("timed out")
    fault.heard = heard
    return fault
