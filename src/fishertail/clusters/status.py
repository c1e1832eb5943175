"""running, success or failed of a job, as Snakemake asks for it: one query of the scheduler for all jobs of a poll."""

import fcntl
import getpass
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

from fishertail.clusters import packs, spool
from fishertail.clusters.request import ClusterError
from fishertail.clusters.scheduler import PATIENCE, PAUSE, call

FRESH = 2.0  # seconds for which the answer to a query holds
WATCHED = 600.0  # seconds for which queries name a job after it was last asked for
ACCOUNTING_LATE = 120.0  # seconds that accounting may lag behind the queue
FILES_LATE = 90.0  # seconds that a shared file system may: NFS keeps what it knows of a folder for 60


def status(job: str, scheduler: ModuleType) -> str:
    """What has become of a job, or of a member of a pack."""
    member = packs.member_of(job)
    token, scheduler_job = _names(job, member)
    if (ended := _by_exit_code(token)) is not None:
        spool.write(spool.path("recorded", token), "")
        return ended
    queue = _queue(scheduler, scheduler_job)
    state = "running" if queue is None else queue.get(scheduler_job, "gone")
    if state == "running":  # so it is where the scheduler does not answer: it is waited for
        if queue is not None:
            spool.path("missed", job).unlink(missing_ok=True)
        return state
    if (ended := _by_exit_code(token)) is not None:  # it may have ended between the two questions
        return ended
    if state == "stuck":
        call(scheduler.cancel_command([scheduler_job]))
        print(f"job {scheduler_job} is in an error state, and deleted", file=sys.stderr)
        return "failed"
    if member is not None:
        return _after(FILES_LATE, job, f"its pack, job {scheduler_job}, ended without its exit code")
    return _of_accounting(job, scheduler)


def is_queued(job: str, scheduler: ModuleType) -> bool:
    """Whether the scheduler says that it has a job, or the pack of a member, which has not ended.

    Raises:
        ClusterError: it does not answer for minutes. Taken for a no, that would have the job run twice.
    """
    token, scheduler_job = _names(job, packs.member_of(job))
    if _by_exit_code(token) is not None or not scheduler_job:
        return False
    deadline = time.monotonic() + PATIENCE
    while (queue := _queue(scheduler, scheduler_job)) is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"the scheduler does not say whether job {scheduler_job} is in the queue")
        time.sleep(PAUSE)
    return queue.get(scheduler_job) == "running"


def queued(jobs: list[str], scheduler: ModuleType) -> list[str]:
    """Those that `is_queued`, by one query."""
    for job in jobs:
        token, scheduler_job = _names(job, packs.member_of(job))
        if _by_exit_code(token) is None and scheduler_job:
            watch(scheduler_job)
    return [job for job in jobs if is_queued(job, scheduler)]


def _names(job: str, member: packs.Member | None) -> tuple[str, str]:
    """The token of a job, and the scheduler's job that it is, or is a member of."""
    if member is not None:
        return member.token, member.scheduler_job
    return (spool.read(spool.path("jobs", job)) or "").strip(), job


def _by_exit_code(token: str) -> str | None:
    """What a script's exit code says; None where it left none (yet)."""
    code = spool.exit_code(token) if token else None
    return None if code is None else "success" if code == 0 else "failed"


def _of_accounting(job: str, scheduler: ModuleType) -> str:
    """Of a job that is not in the queue any more, and left no exit code: what accounting says, which may come late."""
    code, output, _ = call(scheduler.accounting_command(job))
    outcome = scheduler.outcome(output, code)
    if outcome is None:
        return _after(ACCOUNTING_LATE, job, "neither in the queue nor in accounting: lost")
    if outcome == "failed":
        print(f"job {job}: {scheduler.reason(output)}", file=sys.stderr)
    return outcome


def _after(seconds: float, job: str, fault: str) -> str:
    """failed, when a job has been missing for so long; until then, running."""
    missed = spool.path("missed", job)
    since = spool.read(missed)
    if since is None:
        spool.write(missed, str(time.time()))
        return "running"
    if time.time() - float(since) < seconds:
        return "running"
    print(f"job {job}: {fault}", file=sys.stderr)
    return "failed"


def _queue(scheduler: ModuleType, job: str) -> dict[str, str] | None:
    """The jobs in the queue and their states, not older than FRESH; None where the scheduler did not answer.

    Asked by many processes at a time, on one host; a lock lets one of them ask for all.
    """
    cache = _cache()
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        watch(job)
        watched = _watched(cache)
        try:
            kept = json.loads((cache / "queue.json").read_text())
            if time.time() - kept["time"] < FRESH and job in kept["watched"]:
                return kept["jobs"]
        except (OSError, ValueError, KeyError):
            pass
        code, output, _ = call(scheduler.query_command(watched))
        jobs = scheduler.states(output, code)
        part = cache / "queue.part"
        part.write_text(json.dumps({"time": time.time(), "jobs": jobs, "watched": watched}))
        part.replace(cache / "queue.json")
        return jobs


def watch(job: str) -> None:
    """Have the next query name a job."""
    folder = _cache() / "watched"
    folder.mkdir(exist_ok=True)
    (folder / job).touch()


def _watched(cache: Path) -> list[str]:
    """The jobs that were asked for in the last minutes."""
    recent = time.time() - WATCHED
    jobs = []
    for entry in os.scandir(cache / "watched"):
        if entry.stat().st_mtime > recent:
            jobs.append(entry.name)
        else:
            os.unlink(entry.path)
    return sorted(jobs)


def _cache() -> Path:
    """On the login node's own disk, where locks work."""
    here = hashlib.sha256(os.getcwd().encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fishertail-{getpass.getuser()}-{here}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
