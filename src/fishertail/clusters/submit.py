"""Submit a job that Snakemake wrote a script for, unless the same one is still in the queue."""

import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fishertail.clusters import packs, spool, status
from fishertail.clusters.request import ClusterError, Request
from fishertail.clusters.scheduler import call_patiently

LOGS = Path("logs") / "cluster"


def submit(script: str, scheduler: ModuleType, cluster: dict) -> str:
    """The id of the job for a script of Snakemake's: a new one, or the one that a killed Snakemake left.

    Snakemake does not find jobs of a process that was killed; running them twice would write the same files twice.
    """
    request = Request.read(script)
    ledger = spool.path("ledger", request.key)
    known = spool.read(ledger)
    if known and spool.path("cancelled", known).exists():
        _wait_for_the_end(known, scheduler)
    elif known and status.is_queued(known, scheduler):
        print(f"{request.name}: adopted job {known}, which is still in the queue", file=sys.stderr)
        return known
    token = uuid.uuid4().hex[:16]
    wrapped = spool.wrapped(request.script, token, cluster["modules"])
    LOGS.mkdir(parents=True, exist_ok=True)
    if cluster["whole_nodes"] and 0 < request.gpus < cluster["node_gpus"]:
        job = _packed(request, token, wrapped, scheduler, cluster)
    else:
        job = _submitted(request, token, wrapped, scheduler, cluster)
    spool.write(ledger, job)
    return job


def _submitted(request: Request, token: str, script: str, scheduler: ModuleType, cluster: dict) -> str:
    path = spool.path("scripts", f"{request.name}.{token}.sh")
    spool.write(path, script)
    request = _within_the_trial(request, cluster)
    log = str((LOGS / f"{request.name}.{token[:8]}.log").absolute())
    output = call_patiently(scheduler.submit_command(request, cluster, str(path), log), scheduler)
    job = scheduler.job_id(output)
    if job is None:
        raise ClusterError(f"no job number in the answer of the submit command: {output!r}")
    spool.write(spool.path("jobs", job), token)
    for folder in ("missed", "cancelled"):  # of an older job of the same number
        spool.path(folder, job).unlink(missing_ok=True)
    status.watch(job)
    return job


def _packed(request: Request, token: str, script: str, scheduler: ModuleType, cluster: dict) -> str:
    """A place in an open pack, or in a new one."""
    log = str((LOGS / f"{request.name}.{token[:8]}.log").absolute())
    wanted = (request.gpus, request.minutes)
    for pack in packs.joinable(*wanted, cluster["node_gpus"]):
        if not status.is_queued(packs.job_of(pack), scheduler):
            packs.close(pack)
            continue
        member = packs.put(pack, token, script, *wanted, log)
        if member is not None:
            return member.id
    pack = packs.open_pack(request.minutes)
    member = packs.put(pack, token, script, *wanted, log)
    minutes = request.minutes + packs.JOINING // 60 + 1
    limit = cluster["walltime_limit"]
    members = cluster["node_gpus"] // request.gpus
    whole_node = replace(
        request,
        name=f"pack.{pack}",
        gpus=cluster["node_gpus"],
        cpus=request.cpus * members,
        mem_mb=request.mem_mb and request.mem_mb * members,
        minutes=min(minutes, limit) if limit else minutes,
    )
    pack_script = spool.wrapped(packs.script_of(pack), pack, cluster["modules"])
    packs.submitted(pack, _submitted(whole_node, pack, pack_script, scheduler, cluster))
    return member.id


def _wait_for_the_end(job: str, scheduler: ModuleType) -> None:
    """Of a job that was cancelled and may still be ending, for a minute: it would write the same files."""
    deadline = time.monotonic() + 60
    while status.is_queued(job, scheduler) and time.monotonic() < deadline:
        time.sleep(3)


def _within_the_trial(request: Request, cluster: dict) -> Request:
    """Without an account, where a site has trial runs of some minutes."""
    if cluster["account"] or not cluster["trial_minutes"]:
        return request
    minutes = min(request.minutes, cluster["trial_minutes"])
    print(f"{request.name}: no cluster.account, so this is a trial run of {minutes} minutes", file=sys.stderr)
    return replace(request, minutes=minutes)


def cancel(jobs: list[str], scheduler: ModuleType) -> None:
    """End jobs, waiting or running; a pack when its last member is ended."""
    doomed = []
    for job in jobs:
        spool.write(spool.path("cancelled", job), "")
        member = packs.member_of(job)
        if member is None:
            doomed.append(job)
        elif packs.cancel(member) and member.scheduler_job:
            packs.close(member.pack)
            doomed.append(member.scheduler_job)
    with suppress(ClusterError):
        if doomed:
            call_patiently(scheduler.cancel_command(sorted(set(doomed))), scheduler)
