"""Submit a job that Snakemake wrote a script for, unless the same one is still in the queue."""

import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fishertail.clusters import packs, spool, status
from fishertail.clusters.ending import cancel_and_wait, of_this_run
from fishertail.clusters.request import ClusterError, Request
from fishertail.clusters.scheduler import PATIENCE, PAUSE, call, is_unreachable, refusal
from fishertail.clusters.spool import Submission

LOGS = Path("logs") / "cluster"


def submit(script: str, scheduler: ModuleType, cluster: dict) -> str:
    """The id of the job for a script of Snakemake's: a new one, or the one that a killed Snakemake left.

    Snakemake does not find jobs of a process that was killed; running them twice would write the same files twice.

    Raises:
        ClusterError: the scheduler refused the job, or did not answer; or an earlier attempt failed by its own fault.
    """
    request = Request.read(script)
    if request.log and (fault := spool.own_fault(request.log)):
        Path(request.log).write_text(fault)  # which Snakemake has removed, and shows
        raise ClusterError(f"{request.name}: not tried again, its fault is its own:\n{fault}")
    job = _left_over(request, scheduler)
    if job is None:
        LOGS.mkdir(parents=True, exist_ok=True)
        packed = cluster["whole_nodes"] and 0 < request.gpus < cluster["node_gpus"]
        job = (_packed if packed else _sent)(request, scheduler, cluster)
    else:
        print(f"{request.name}: adopted job {job}, which is in the queue or has ended", file=sys.stderr)
    of_this_run(job, scheduler)
    return job


def _left_over(request: Request, scheduler: ModuleType) -> str | None:
    """The job for the same outputs and parameters that is in the queue, or ended unseen; one of others is ended."""
    known = Submission.noted(request.key)
    if known is None:
        return None
    job = known.job or spool.give_up(known.token)
    ended_well = spool.exit_code(known.token) == 0 and not spool.path("recorded", known.token).exists()
    if job and ended_well and known.stamp == request.stamp:
        return job  # while no Snakemake ran, which now learns of it, and records its outputs
    if job is None or not status.is_queued(job, scheduler):
        return None
    if known.stamp == request.stamp and not spool.path("cancelled", job).exists():
        return job if packs.member_of(job) else _known(replace(known, job=job), request)
    cancel_and_wait(job, scheduler)
    return None


def _sent(request: Request, scheduler: ModuleType, cluster: dict) -> str:
    """Submitted as a job of its own. A scheduler that cannot be reached is waited for."""
    request = _within_the_trial(request, cluster)
    deadline = time.monotonic() + PATIENCE
    while True:
        submission = Submission(uuid.uuid4().hex[:16], request.stamp)
        submission.note(request.key)
        path = spool.path("scripts", f"{request.name}.{submission.token}.sh")
        spool.write(path, spool.wrapped(request.script, submission.token, scheduler.OWN_ID, cluster["modules"]))
        command = scheduler.submit_command(request, cluster, str(path), _log(request, submission.token))
        code, output, error = call(command)
        if code == 0:
            break
        # it may have been heard all the same
        if not is_unreachable(scheduler, code, output + error) or time.monotonic() > deadline:
            raise refusal(command, code, error + output)
        if job := spool.give_up(submission.token):
            return _known(replace(submission, job=job), request)
        time.sleep(PAUSE)
    job = scheduler.job_id(output)
    if job is None:
        raise ClusterError(f"no job number in the answer of the submit command: {output!r}")
    return _known(replace(submission, job=job), request)


def _known(submission: Submission, request: Request) -> str:
    """Note a job that the scheduler has, for those who ask for its status."""
    for folder in ("missed", "cancelled"):  # of an older job of the same number
        spool.path(folder, submission.job).unlink(missing_ok=True)
    spool.write(spool.path("jobs", submission.job), submission.token)
    submission.note(request.key)
    status.watch(submission.job)
    return submission.job


def _log(request: Request, token: str) -> str:
    return str((LOGS / f"{request.name}.{token[:8]}.log").absolute())


def _packed(request: Request, scheduler: ModuleType, cluster: dict) -> str:
    """A place in an open pack, or in a new one."""
    for pack in packs.joinable(request.gpus, request.minutes, cluster["node_gpus"]):
        if not status.is_queued(packs.job_of(pack), scheduler):
            packs.close(pack)
        elif member := _put(pack, request, cluster):
            return member.id
    pack = packs.open_pack(request.minutes)
    member = _put(pack, request, cluster)
    minutes = request.minutes + packs.JOINING // 60 + 1
    limit = cluster["walltime_limit"]
    members = cluster["node_gpus"] // request.gpus
    whole_node = replace(
        request,
        script=packs.script_of(pack),
        name=f"pack.{pack}",
        key=f"pack.{pack}",
        gpus=cluster["node_gpus"],
        cpus=request.cpus * members,
        mem_mb=request.mem_mb and request.mem_mb * members,
        minutes=min(minutes, limit) if limit else minutes,
    )
    packs.submitted(pack, _sent(whole_node, scheduler, cluster))
    return member.id


def _put(pack: str, request: Request, cluster: dict) -> packs.Member | None:
    member = packs.Member(pack, uuid.uuid4().hex[:16])
    Submission(member.token, request.stamp, member.id).note(request.key)
    script = spool.wrapped(request.script, member.token, member.id, cluster["modules"])
    joined = packs.put(member, script, request.gpus, request.minutes, _log(request, member.token))
    return member if joined else None


def _within_the_trial(request: Request, cluster: dict) -> Request:
    """Without an account, where a site has trial runs of some minutes."""
    if cluster["account"] or not cluster["trial_minutes"]:
        return request
    minutes = min(request.minutes, cluster["trial_minutes"])
    print(f"{request.name}: no cluster.account, so this is a trial run of {minutes} minutes", file=sys.stderr)
    return replace(request, minutes=minutes)
