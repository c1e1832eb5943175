"""Grid Engine, as on TSUBAME 3 and 4."""

import re
from xml.etree import ElementTree

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, State, Submission, option, user, walltime


class Scheduler(base.Scheduler):
    OWN_ID = "$JOB_ID"
    JOB_ID = r"^(\d+)\s*$"
    UNREACHABLE = "unable to contact qmaster|commlib error|got no response|unable to send message"
    BUSY = r"only \d+ jobs are allowed|job limit|try (again )?later"
    CANCEL = "qdel"
    ACCOUNT = "-g {account}"
    RESOURCE_TYPES = "what follows `-l`"
    IGNORED = ("cpus_per_gpu",)

    def submit_command(self, job: Submission) -> list[str]:
        command = ["qsub", "-terse", "-cwd", "-V", "-S", "/bin/bash", "-r", "n", "-N", job.name]
        command += ["-j", "y", "-o", job.log, *job.account(self.ACCOUNT)]
        command += [*option("-q", job.queue), *option("-l", job.resource_type)]
        return [*command, "-l", f"h_rt={walltime(job.minutes)}", *job.options, job.script]

    def queue(self) -> dict[str, Queued]:
        return parse_queue(self._output(["qstat", "-u", user(), "-xml"]))

    def reason(self, job: str) -> str:
        found = re.search(r"^error reason.*?:\s*(.+)$", self._call(["qstat", "-j", job]).output, re.M)
        return found[1].strip() if found else "it is in an error state"

    def ended(self, ids: list[str]) -> dict[str, Queued]:
        found = {}
        for job in ids:  # qacct takes one id at a time
            if (record := parse_accounting(self._answered(["qacct", "-j", job]).output)) is not None:
                found[job] = record
        return found


def parse_queue(output: str) -> dict[str, Queued]:
    """Jobs by id, from the output of `qstat -xml`.

    Raises:
        Unanswered: the output is not XML.
    """
    try:
        jobs = ElementTree.fromstring(output).iter("job_list")
        return {
            job.findtext("JB_job_number", ""): Queued(
                job.findtext("JB_name", ""),
                # E: an error state, in which Grid Engine keeps a job for ever
                State.STUCK if "E" in job.findtext("state", "") else State.LIVE,
            )
            for job in jobs
        }
    except ElementTree.ParseError as error:
        raise Unanswered(f"qstat -xml: {error}") from None


def parse_accounting(output: str) -> Queued | None:
    """The last job of a number in the output of `qacct -j`, since numbers are reused; None if it knows none (yet)."""
    fields = dict(re.findall(r"^(\w+)[ \t]+(.*?)\s*$", output.split("=" * 20)[-1], re.M))
    if "exit_status" not in fields or "failed" not in fields:
        return None
    failed, _, words = fields["failed"].partition(":")
    code = fields["exit_status"].partition(" ")[0]
    if failed.strip() == code == "0":
        return Queued(fields.get("jobname", ""), State.DONE)
    return Queued(fields.get("jobname", ""), State.FAILED, words.strip() or f"exit code {code}")
