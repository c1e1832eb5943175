"""OpenPBS and PBS Professional."""

import getpass
import re

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.programs import call
from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, State

_NO_HISTORY = 36  # qstat -x of a server that keeps none
_ABOUT_ONE_JOB = (0, 35, 153)  # of several, one has finished or is unknown; the others are printed all the same
_ENDED_BY_ITSELF = 92  # substate; a running job that qdel ended has Exit_status 0, too, and substate 91
_OVER_WALLTIME = -29  # Exit_status
_FIELDS = ("Job_Name", "job_state", "substate", "Exit_status", "comment")


class Scheduler(base.Scheduler):
    OWN_ID = "$PBS_JOBID"
    UNREACHABLE = re.compile(
        r"cannot connect to server|couldn't connect|connection refused|timed? ?out|end of file|shutting down", re.I
    )
    BUSY = re.compile(r"would exceed|maximum number of jobs|is not enabled|over ?limit|try again later", re.I)

    def submit_command(self, request, site, name, script, log):
        command = ["qsub", "-V", "-S", "/bin/bash", "-r", "n", "-N", name, "-j", "oe", "-o", log]
        command += base.account(site, "-P {account}")
        if queue := request.queue or site.entry("queues", request.gpus):
            command += ["-q", queue]
        command += ["-l", f"select={site.entry('resource_types', request.gpus) or self._select(request, site)}"]
        return [*command, "-l", f"walltime={base.walltime(site.minutes(request.minutes))}", *site.options, script]

    def _select(self, request, site) -> str:
        cpus = max(request.cpus, request.gpus * site.cpus_per_gpu)
        gpus = f":ngpus={request.gpus}" if request.gpus else ""
        return f"1:ncpus={cpus}{gpus}" + (f":mem={request.mem_mb}mb" if request.mem_mb else "")

    def job_id(self, output):
        names = re.findall(r"^(\d+\.\S+)\s*$", output, re.M)  # such as 24.tsubame
        return names[-1] if names else None

    def queue(self):
        """By two programs: qselect names the user's jobs, qstat tells of them.

        Not `-F json`: OpenPBS 23.06 then prints the first live job alone, in valid JSON, with exit code 0.
        """
        selected = call(["qselect", "-u", getpass.getuser()])
        if selected.code:
            raise Unanswered(selected.words)
        ids = selected.output.split()
        return self._told(["qstat", "-f", "-F", "dsv", *ids]) if ids else {}

    def ended(self, ids):
        return self._told(["qstat", "-x", "-f", "-F", "dsv", *ids])

    def _told(self, command: list[str]) -> dict[str, Queued]:
        answer = call(command)
        if answer.code == _NO_HISTORY:
            return {}
        if answer.code not in _ABOUT_ONE_JOB:
            raise Unanswered(answer.words)
        return parse(answer.output)

    def cancel_command(self, ids):
        return ["qdel", *ids]


def parse(output: str) -> dict[str, Queued]:
    """What `qstat -f -F dsv` prints: a record a job, over several lines where its environment holds some."""
    found = {}
    for record in re.split(r"^Job Id: ", output, flags=re.M)[1:]:
        job, *parts = record.split("|")
        fields: dict[str, str] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name in _FIELDS:
                fields.setdefault(name, value.strip())
        found[job.strip()] = _described(fields)
    return found


def _described(fields: dict[str, str]) -> Queued:
    name = fields.get("Job_Name", "")
    code, comment = fields.get("Exit_status", ""), fields.get("comment", "")
    if fields.get("job_state") == "H" and "too many failed attempts" in comment:
        return Queued(name, State.STUCK, comment)
    if fields.get("job_state") not in ("F", "X"):
        return Queued(name, State.LIVE)
    if fields.get("substate") == str(_ENDED_BY_ITSELF) and code == "0":
        return Queued(name, State.DONE)
    if code == str(_OVER_WALLTIME):
        return Queued(name, State.FAILED, "walltime exceeded")
    return Queued(name, State.FAILED, comment or f"exit code {code or 'unknown'}")
