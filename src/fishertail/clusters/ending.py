"""End jobs: some, or all that a run of Snakemake has in the queue when it ends.

Snakemake cancels, at Ctrl-C, only the jobs whose status it is not just asking for, which can be none of them, and then
waits until it would have asked again, on Slurm up to three minutes later. So every submission is noted by its run, and
the process that runs Snakemake ends what is left of them at once, and again as it exits.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from types import ModuleType

from fishertail.clusters import packs, spool, status
from fishertail.clusters.request import RUN_VARIABLE, ClusterError
from fishertail.clusters.scheduler import PATIENCE, SCHEDULERS, call_patiently

_ENDED = "ended"  # a file of a run, beside those of its jobs


def of_this_run(job: str, scheduler: ModuleType) -> None:
    """Note a job as one of this run.

    Raises:
        ClusterError: the run was ended while the job was being submitted; so is the job.
    """
    run = os.environ.get(RUN_VARIABLE)
    if run is None:
        return
    folder = spool.folder(f"runs/{run}")
    spool.write(folder / job, next(name for name, module in SCHEDULERS.items() if module is scheduler))
    if (folder / _ENDED).exists():
        cancel([job], scheduler)
        raise ClusterError(f"job {job} was cancelled: Snakemake ended while it was submitted")


def end_with_snakemake(run: str) -> None:
    """Have the jobs of a run end at Ctrl-C, and when this process exits otherwise; not when it is killed."""
    atexit.register(end_run, run)
    if threading.current_thread() is not threading.main_thread():  # a caller's own, which may not set a handler
        return
    before = signal.getsignal(signal.SIGINT)

    def at_ctrl_c(number, frame):
        signal.signal(signal.SIGINT, before)
        threading.Thread(target=end_run, args=[run]).start()  # joined before exit handlers run
        before(number, frame)

    if callable(before):  # not where Ctrl-C is ignored
        signal.signal(signal.SIGINT, at_ctrl_c)


def end_run(run: str) -> None:
    """Cancel what a run still has in the queue, and what it is about to submit."""
    folder = spool.folder(f"runs/{run}")
    spool.write(folder / _ENDED, "")
    noted = defaultdict(list)
    for note in folder.iterdir():
        if note.name != _ENDED:
            noted[note.read_text()].append(note.name)
    try:
        for name, jobs in noted.items():
            if left := status.queued(jobs, SCHEDULERS[name]):
                print(f"cancelling {len(left)} jobs in the queue", file=sys.stderr)
                cancel(left, SCHEDULERS[name])
            for job in jobs:
                (folder / job).unlink(missing_ok=True)  # done with, unlike one noted from now on
    except ClusterError as error:
        print(f"warning: jobs may be left in the queue: {error}", file=sys.stderr)


def cancel(jobs: list[str], scheduler: ModuleType) -> None:
    """End jobs, waiting or running; a pack when its last member is ended.

    Raises:
        ClusterError: the scheduler does not answer.
    """
    doomed = []
    for job in jobs:
        spool.write(spool.path("cancelled", job), "")
        member = packs.member_of(job)
        if member is None:
            doomed.append(job)
        elif packs.cancel(member) and member.scheduler_job:
            packs.close(member.pack)
            doomed.append(member.scheduler_job)
    if not doomed:
        return
    try:
        call_patiently(scheduler.cancel_command(sorted(set(doomed))), scheduler)
    except ClusterError:
        if status.queued(doomed, scheduler):  # else they ended by themselves meanwhile
            raise


def cancel_and_wait(job: str, scheduler: ModuleType) -> None:
    """End a job, and wait until it has ended: it would write the same files as the one to come.

    Raises:
        ClusterError: it does not end, or the scheduler does not answer.
    """
    cancel([job], scheduler)
    deadline = time.monotonic() + PATIENCE
    while status.is_queued(job, scheduler):
        if time.monotonic() > deadline:
            raise ClusterError(f"job {job} was cancelled, and is still in the queue; it would write the same files")
        time.sleep(3)
