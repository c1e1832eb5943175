"""OpenPBS and PBS Professional: command lines, and what their programs answer."""

import json
import re

from fishertail.clusters.request import Request, account, size

OWN_ID = "$PBS_JOBID"  # in the environment of a job
UNREACHABLE = re.compile(r"cannot connect to server|connection refused|timed? ?out|end of file", re.I)
_UNKNOWN, _FINISHED = 153, 35  # qstat's exit codes of a job that it has forgotten, or without -x has finished
_ENDED_BY_ITSELF = 92  # substate; a running job that qdel ended has Exit_status 0, too, and substate 91
_OVER_WALLTIME = -29  # Exit_status


def submit_command(request: Request, cluster: dict, script: str, log: str) -> list[str]:
    """What submits `script`, whose output goes to `log`."""
    command = ["qsub", "-V", "-S", "/bin/bash", "-r", "n", "-N", request.name, "-j", "oe", "-o", log]
    command += account(cluster, "-P {account}")
    if cluster["queue"]:
        command += ["-q", size(request, cluster, "queue")]
    command += ["-l", f"select={_select(request, cluster)}"]
    hours, minutes = divmod(request.minutes, 60)
    return [*command, "-l", f"walltime={hours}:{minutes:02d}:00", *cluster["options"], script]


def _select(request: Request, cluster: dict) -> str:
    if cluster["resource_types"]:
        return size(request, cluster, "resource_types")
    cpus = max(request.cpus, request.gpus * cluster["cpus_per_gpu"])
    gpus = f":ngpus={request.gpus}" if request.gpus else ""
    return f"1:ncpus={cpus}{gpus}" + (f":mem={request.mem_mb}mb" if request.mem_mb else "")


def job_id(output: str) -> str | None:
    """The job's name in qsub's answer, such as 24.tsubame; banners may come before it."""
    names = re.findall(r"^(\d+(?:\[\])?\.\S+)\s*$", output, re.M)
    return names[-1] if names else None


def query_command(ids: list[str]) -> list[str]:
    # not -x, which a server that keeps no history refuses
    return ["qstat", "-f", "-F", "json", *ids]


def states(output: str, code: int) -> dict[str, str] | None:
    """running, success or failed of every job that PBS shows; None where the server gave no answer."""
    if code not in (0, _UNKNOWN, _FINISHED):
        return None
    if not output.strip():
        return {} if code else None
    try:
        jobs = json.loads(output, strict=False).get("Jobs", {})
    except ValueError:
        return None
    return {name: _state(job) for name, job in jobs.items()}


def _state(job: dict) -> str:
    if job.get("job_state") not in ("F", "X"):
        return "running"
    by_itself = job.get("substate") == _ENDED_BY_ITSELF
    return "success" if by_itself and str(job.get("Exit_status")) == "0" else "failed"


def accounting_command(job: str) -> list[str]:
    return ["qstat", "-x", "-f", "-F", "json", job]


def outcome(output: str, code: int) -> str | None:
    """success or failed of a job that has left the queue; None where the history does not have it."""
    found = states(output, code) or {}
    return next((state for state in found.values() if state != "running"), None)


def reason(output: str) -> str:
    """Why the history says that a job failed."""
    try:
        job = next(iter(json.loads(output)["Jobs"].values()))
    except (ValueError, KeyError, StopIteration):
        return "unknown"
    if job.get("Exit_status") == _OVER_WALLTIME:
        return "walltime exceeded"
    return f"exit status {job.get('Exit_status')}: {job.get('comment', '')}"


def cancel_command(jobs: list[str]) -> list[str]:
    return ["qdel", *jobs]
