"""Grid Engine, as on TSUBAME 3 and 4."""

import getpass
import re
from xml.etree import ElementTree

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.programs import call
from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, State


class Scheduler(base.Scheduler):
    OWN_ID = "$JOB_ID"
    UNREACHABLE = re.compile(r"unable to contact qmaster|commlib error|got no response|unable to send message", re.I)
    BUSY = re.compile(r"only \d+ jobs are allowed|job limit|try (again )?later", re.I)
    IGNORED = ("cpus_per_gpu",)

    def submit_command(self, request, site, name, script, log):
        command = ["qsub", "-terse", "-cwd", "-V", "-S", "/bin/bash", "-r", "n", "-N", name, "-j", "y", "-o", log]
        command += base.account(site, "-g {account}")
        if queue := request.queue or site.entry("queues", request.gpus):
            command += ["-q", queue]
        if wanted := site.entry("resource_types", request.gpus):
            command += ["-l", wanted]
        return [*command, "-l", f"h_rt={base.walltime(site.minutes(request.minutes))}", *site.options, script]

    def job_id(self, output):
        numbers = re.findall(r"^(\d+)\s*$", output, re.M)
        return numbers[-1] if numbers else None

    def queue(self):
        answer = call(["qstat", "-u", getpass.getuser(), "-xml"])
        if answer.code:
            raise Unanswered(answer.words)
        return parse_queue(answer.output)

    def reason(self, job):
        found = re.search(r"^error reason.*?:\s*(.+)$", call(["qstat", "-j", job]).output, re.M)
        return found[1].strip() if found else "it is in an error state"

    def ended(self, ids):
        found = {}
        for job in ids:  # qacct takes one
            if (record := parse_accounting(self._answered(["qacct", "-j", job]).output)) is not None:
                found[job] = record
        return found

    def cancel_command(self, ids):
        return ["qdel", *ids]


def parse_queue(output: str) -> dict[str, Queued]:
    """What `qstat -xml` says.

    Raises:
        Unanswered: it is no XML.
    """
    try:
        jobs = ElementTree.fromstring(output).iter("job_list")
        return {
            job.findtext("JB_job_number", ""): Queued(
                job.findtext("JB_name", ""),
                # E: an error that Grid Engine keeps a job in for ever
                State.STUCK if "E" in job.findtext("state", "") else State.LIVE,
            )
            for job in jobs
        }
    except ElementTree.ParseError as error:
        raise Unanswered(f"qstat -xml: {error}") from None


def parse_accounting(output: str) -> Queued | None:
    """What `qacct -j` says of the last job of a number, since numbers come again; None where it knows none (yet)."""
    fields = dict(re.findall(r"^(\w+)[ \t]+(.*?)\s*$", output.split("=" * 20)[-1], re.M))
    if "exit_status" not in fields or "failed" not in fields:
        return None
    failed, _, words = fields["failed"].partition(":")
    code = fields["exit_status"].partition(" ")[0]
    if failed.strip() == code == "0":
        return Queued(fields.get("jobname", ""), State.DONE)
    return Queued(fields.get("jobname", ""), State.FAILED, words.strip() or f"exit code {code}")
