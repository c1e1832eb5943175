"""Slurm, with or without an accounting database."""

import re

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.programs import call
from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, State

# any other state is of a job that may still run
_ENDED = {
    "BOOT_FAIL": "its node failed to boot",
    "CANCELLED": "cancelled",
    "DEADLINE": "its deadline passed",
    "FAILED": "failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted",
    "REVOKED": "revoked",
    "TIMEOUT": "walltime exceeded",
}


class Scheduler(base.Scheduler):
    OWN_ID = "$SLURM_JOB_ID"
    UNREACHABLE = re.compile(
        r"unable to contact slurm controller|socket timed out|connection (refused|timed out|reset)|communication"
        r"|zero bytes were transmitted|unexpected message received|backup controller in standby|munge"
        r"|authentication error|i/o error writing script|controller not responding",
        re.I,
    )
    BUSY = re.compile(
        r"temporarily un(able|available)|QOSMaxSubmit|AssocMaxSubmit|maximum number of jobs"
        r"|partition.*(drain|inactive|not available|unavailable)|reached its? (job )?limit",
        re.I,
    )
    IGNORED = ("account_option", "trial_minutes")

    def submit_command(self, request, site, name, script, log):
        # a requeued job would have as little time and memory as before: Snakemake's next attempt has more
        command = ["sbatch", "--parsable", "--no-requeue", "--export=ALL", "--job-name", name, "--output", log]
        command += ["--time", str(site.minutes(request.minutes)), "--nodes=1", "--ntasks=1"]
        command += [f"--cpus-per-task={max(request.cpus, request.gpus * site.cpus_per_gpu)}"]
        if request.mem_mb:
            command += [f"--mem={request.mem_mb}"]
        if request.gpus:
            command += [f"--gres={site.entry('resource_types', request.gpus) or f'gpu:{request.gpus}'}"]
        if queue := request.queue or site.entry("queues", request.gpus):
            command += ["--partition", queue]
        if site.account:
            command += ["--account", site.account]
        return [*command, *site.options, script]

    def job_id(self, output):
        numbers = re.findall(r"^(\d+)(?:;\S+)?\s*$", output, re.M)  # 12;cluster in a federation
        return numbers[-1] if numbers else None

    def queue(self):
        """Those that have ended are named for some minutes, too (MinJobAge)."""
        answer = call(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j"])
        if answer.code:
            raise Unanswered(answer.words)
        return parse(answer.output)

    def ended(self, ids):
        command = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobIDRaw,State,JobName"]
        answer = call([*command, f"--jobs={','.join(ids)}"])
        if answer.code and "accounting storage is disabled" not in answer.words:
            raise Unanswered(answer.words)
        return parse(answer.output)

    def cancel_command(self, ids):
        return ["scancel", *ids]


def parse(output: str) -> dict[str, Queued]:
    """Lines of ID|STATE|NAME."""
    found = {}
    for line in output.splitlines():
        job, state, name = [*line.strip().split("|", 2), "", ""][:3]
        state = state.partition(" ")[0]  # CANCELLED by 1000
        if job and state == "COMPLETED":
            found[job] = Queued(name, State.DONE)
        elif job and state in _ENDED:
            found[job] = Queued(name, State.FAILED, _ENDED[state])
        elif job and state:
            found[job] = Queued(name, State.LIVE)
    return found
