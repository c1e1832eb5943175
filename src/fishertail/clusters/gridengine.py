"""Grid Engine, as on TSUBAME 3 and 4: command lines, and what its programs answer."""

import getpass
import re

from fishertail.clusters.request import Request, account, size

OWN_ID = "$JOB_ID"  # in the environment of a job
UNREACHABLE = re.compile(r"unable to contact qmaster|commlib error|got no response|unable to send message", re.I)


def submit_command(request: Request, cluster: dict, script: str, log: str) -> list[str]:
    """What submits `script`, whose output goes to `log`."""
    command = ["qsub", "-terse", "-cwd", "-V", "-S", "/bin/bash", "-r", "n", "-N", request.name, "-j", "y", "-o", log]
    command += account(cluster, "-g {account}")
    if cluster["queue"]:
        command += ["-q", size(request, cluster, "queue")]
    if cluster["resource_types"]:
        command += ["-l", size(request, cluster, "resource_types")]
    hours, minutes = divmod(request.minutes, 60)
    return [*command, "-l", f"h_rt={hours}:{minutes:02d}:00", *cluster["options"], script]


def job_id(output: str) -> str | None:
    """The job number in qsub's answer: banners may come before it, and arrays are 12.1-4:1."""
    numbers = re.findall(r"^(\d+)(?:\.\S+)?\s*$", output, re.M)
    return numbers[-1] if numbers else None


def query_command(ids: list[str]) -> list[str]:
    return ["qstat", "-u", getpass.getuser()]


def states(output: str, code: int) -> dict[str, str] | None:
    """running or stuck of every job in the queue; None where the scheduler gave no answer."""
    if code:
        return None
    rows = (line.split() for line in output.splitlines()[2:])
    # E: an error that Grid Engine keeps a job in for ever
    return {row[0]: "stuck" if "E" in row[4] else "running" for row in rows if len(row) > 4}


def accounting_command(job: str) -> list[str]:
    return ["qacct", "-j", job]


def outcome(output: str, code: int) -> str | None:
    """success or failed of a job that has left the queue; None where accounting does not know it (yet)."""
    last = output.split("=" * 20)[-1]  # job numbers wrap round: the last record is this one
    fields = dict(re.findall(r"^(\w+)[ \t]+(.*?)\s*$", last, re.M))
    if code or "exit_status" not in fields:
        return None
    return "success" if fields["failed"].split()[0] == fields["exit_status"].split()[0] == "0" else "failed"


def reason(output: str) -> str:
    """Why accounting says that a job failed."""
    fields = dict(re.findall(r"^(\w+)[ \t]+(.*?)\s*$", output.split("=" * 20)[-1], re.M))
    failed = fields.get("failed", "0").partition(":")[2].strip()
    return failed or f"exit status {fields.get('exit_status', 'unknown').split()[0]}"


def cancel_command(jobs: list[str]) -> list[str]:
    return ["qdel", *jobs]
