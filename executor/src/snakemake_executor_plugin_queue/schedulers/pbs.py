"""OpenPBS and PBS Professional."""

import re

from snakemake_executor_plugin_queue.errors import Unanswered
from snakemake_executor_plugin_queue.schedulers import base
from snakemake_executor_plugin_queue.schedulers.base import Queued, State, Submission, option, user, walltime

_NO_HISTORY = 36  # exit code of qstat -x where the server keeps no history
_ABOUT_ONE_JOB = (0, 35, 153)  # exit codes where one of several jobs has ended or is unknown; the others are printed
_ENDED_BY_ITSELF = 92  # substate; a running job ended by qdel also has Exit_status 0, but substate 91
_OVER_WALLTIME = -29  # Exit_status
_FIELDS = ("Job_Name", "job_state", "substate", "Exit_status", "comment")


class Scheduler(base.Scheduler):
    OWN_ID = "$PBS_JOBID"
    JOB_ID = r"^(\d+\.\S+)\s*$"  # such as 24.tsubame
    UNREACHABLE = "cannot connect to server|couldn't connect|connection refused|timed? ?out|end of file|shutting down"
    BUSY = "would exceed|maximum number of jobs|is not enabled|over ?limit|try again later"
    CANCEL = "qdel"
    ACCOUNT = "-P {account}"
    RESOURCE_TYPES = "a select statement; by default `1:ncpus=N:ngpus=N:mem=Nmb`"

    def submit_command(self, job: Submission) -> list[str]:
        command = ["qsub", "-V", "-S", "/bin/bash", "-r", "n", "-N", job.name, "-j", "oe", "-o", job.log]
        command += [*job.account(self.ACCOUNT), *option("-q", job.queue)]
        command += ["-l", f"select={job.resource_type or _select(job)}"]
        return [*command, "-l", f"walltime={walltime(job.minutes)}", *job.options, job.script]

    def queue(self) -> dict[str, Queued]:
        """Takes two programs: qselect names the user's jobs, qstat describes them.

        Not `-F json`: OpenPBS 23.06 then prints only the first live job, in valid JSON, with exit code 0.
        """
        ids = self._output(["qselect", "-u", user()]).split()
        return self._described(["qstat", "-f", "-F", "dsv", *ids]) if ids else {}

    def ended(self, ids: list[str]) -> dict[str, Queued]:
        return self._described(["qstat", "-x", "-f", "-F", "dsv", *ids])

    def _described(self, command: list[str]) -> dict[str, Queued]:
        answer = self._call(command)
        if answer.code == _NO_HISTORY:
            return {}
        if answer.code not in _ABOUT_ONE_JOB:
            raise Unanswered(answer.words)
        return parse(answer.output)


def _select(job: Submission) -> str:
    gpus = f":ngpus={job.gpus}" if job.gpus else ""
    return f"1:ncpus={job.cpus}{gpus}" + (f":mem={job.mem_mb}mb" if job.mem_mb else "")


def parse(output: str) -> dict[str, Queued]:
    """Jobs by id, from `qstat -f -F dsv`: one record per job, over several lines if its environment has some."""
    found = {}
    for record in re.split(r"^Job Id: ", output, flags=re.M)[1:]:
        job, *parts = record.split("|")
        fields: dict[str, str] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name in _FIELDS:
                fields.setdefault(name, value.strip())
        found[job.strip()] = _state(fields)
    return found


def _state(fields: dict[str, str]) -> Queued:
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
