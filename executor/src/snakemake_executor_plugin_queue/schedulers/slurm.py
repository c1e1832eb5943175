"""Slurm, with or without an accounting database."""

from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, Submission, option, table

_FAILED = {
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
    JOB_ID = r"^(\d+)(?:;\S+)?\s*$"  # 12;cluster in a federation
    UNREACHABLE = (
        r"unable to contact slurm controller|socket timed out|connection (refused|timed out|reset)|communication"
        r"|zero bytes were transmitted|unexpected message received|backup controller in standby|munge"
        r"|authentication error|i/o error writing script|controller not responding"
    )
    BUSY = (
        r"temporarily un(able|available)|QOSMaxSubmit|AssocMaxSubmit|maximum number of jobs"
        r"|partition.*(drain|inactive|not available|unavailable)|reached its? (job )?limit"
    )
    CANCEL = "scancel"
    ACCOUNT = "--account {account}"
    RESOURCE_TYPES = "what follows `--gres=`; by default `gpu:N`"
    IGNORED = ("account_option", "trial_minutes")
    # inside a job of Slurm's, SLURM_CPUS_PER_TASK and the like would be taken for options of the new job
    WITHHELD = r"SLURM_(?!(CONF|CONF_SERVER|CLUSTERS|JWT)$)"

    def submit_command(self, job: Submission) -> list[str]:
        # a requeued job would have the same time and memory again, whereas Snakemake's next attempt may have more
        command = ["sbatch", "--parsable", "--no-requeue", "--export=ALL", "--job-name", job.name]
        command += ["--output", job.log.replace("%", "%%")]  # which begins a pattern
        command += ["--time", str(job.minutes), "--nodes=1", "--ntasks=1", f"--cpus-per-task={job.cpus}"]
        if job.mem_mb:
            command += [f"--mem={job.mem_mb}"]
        if job.gpus:
            command += [f"--gres={job.resource_type or f'gpu:{job.gpus}'}"]
        return [*command, *option("--partition", job.queue), *job.account(self.ACCOUNT), *job.options, job.script]

    def queue(self) -> dict[str, Queued]:
        """Includes jobs that ended in the last few minutes (MinJobAge)."""
        return _jobs(self._output(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j"]))

    def ended(self, ids: list[str]) -> dict[str, Queued]:
        command = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobIDRaw,State,JobName"]
        return _jobs(self._output([*command, f"--jobs={','.join(ids)}"], unless="accounting storage is disabled"))


def _jobs(output: str) -> dict[str, Queued]:
    return table(output, done="COMPLETED", failed=_FAILED)
