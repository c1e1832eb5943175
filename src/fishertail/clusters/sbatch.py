"""sbatch as Snakemake's plugin for Slurm calls it, which adopts a job that a killed Snakemake left.

The program in `bin` beside this file, put first on PATH, looks whether the same job is still in the queue, which
neither Snakemake nor the plugin does, and only then calls Slurm's.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fishertail.clusters import ending, slurm, spool, status
from fishertail.clusters.request import RUN_VARIABLE, STAMP_VARIABLE, ClusterError, digest
from fishertail.clusters.scheduler import call_patiently

_BIN = Path(__file__).parent / "bin"


def put_first_on_path() -> None:
    """Have the plugin call the `sbatch` of this project."""
    os.environ["PATH"] = os.pathsep.join([str(_BIN), os.environ.get("PATH", "")])


def sbatch(arguments: list[str]) -> None:
    """Print the number of a job: of the one with the same comment that is still in the queue, or a new one.

    The plugin's comment names rule and wildcards, and it asks for jobs by their name, which is that of the run: an
    adopted job takes the new run's name.

    Raises:
        ClusterError: Slurm refused the job, or does not say what is in the queue.
    """
    options = _options(arguments)
    comment, name = options.get("--comment"), options.get("--job-name")
    if not comment or not name:
        print(_submitted(arguments), end="")
        return
    doubtful = spool.path("slurm", f"doubtful.{digest(comment)}")
    job = _left_over(comment, name, asked_before=doubtful.exists())
    answer = job
    if job is None:
        spool.write(doubtful, "")  # until Slurm has answered
        answer = _submitted(arguments)
        job = re.match(r"\d+", answer)[0]
        spool.path("jobs", job).unlink(missing_ok=True)  # of another scheduler
    else:
        print(f"{comment}: adopted job {job}, which is still in the queue", file=sys.stderr)
    spool.write(spool.path("slurm", job), os.environ.get(STAMP_VARIABLE, ""))
    doubtful.unlink(missing_ok=True)
    ending.of_this_run(job, slurm)
    print(answer.rstrip())


def _left_over(comment: str, name: str, *, asked_before: bool) -> str | None:
    """The job of an earlier run for the same rule and wildcards; one of another configuration or code is ended.

    Of its own run's jobs Snakemake knows itself what became, unless Slurm's answer was lost.
    """
    jobs = _waiting_and_running() if asked_before else _left_by_earlier_runs()
    found = None
    for job, its_name, its_comment in jobs:
        if its_comment != comment or (its_name == name and not asked_before) or not status.is_queued(job, slurm):
            continue
        unchanged = spool.read(spool.path("slurm", job)) == os.environ.get(STAMP_VARIABLE)
        if found is None and unchanged and not spool.path("cancelled", job).exists() and _renamed(job, name):
            found = job
        else:
            ending.cancel_and_wait(job, slurm)
    return found


def _left_by_earlier_runs() -> list[list[str]]:
    """As they were when this run first asked: none comes later."""
    kept = spool.path("slurm", f"queue.{os.environ.get(RUN_VARIABLE)}")
    text = spool.read(kept)
    if text is None:
        text = json.dumps(_waiting_and_running())
        spool.write(kept, text)
    return json.loads(text)


def _waiting_and_running() -> list[list[str]]:
    """Number, name and comment of the user's jobs that were submitted in this directory."""
    output = call_patiently(["squeue", "-h", "--me", "-o", "%i|%j|%Z|%k"], slurm)
    rows = [line.strip().split("|", 3) for line in output.splitlines() if line.strip()]
    return [[job, name, comment] for job, name, folder, comment in rows if folder == os.getcwd()]


def _renamed(job: str, name: str) -> bool:
    done = subprocess.run(["scontrol", "update", f"JobId={job}", f"JobName={name}"], capture_output=True)
    return done.returncode == 0


def _options(arguments: list[str]) -> dict[str, str]:
    """Long options and their values, as --name value and --name=value."""
    found = {}
    for name, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if name.startswith("--"):
            found.setdefault(*(name.split("=", 1) if "=" in name else (name, value)))
    return found


def _submitted(arguments: list[str]) -> str:
    """What Slurm's own sbatch answers."""
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != _BIN)
    program = shutil.which("sbatch", path=path)
    if program is None:
        raise ClusterError("sbatch is not on PATH: this profile runs on a login node of the cluster")
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": path})
    if done.returncode or not re.match(r"\d+", done.stdout):
        raise ClusterError(f"sbatch failed (exit code {done.returncode}) {done.stdout}")
    return done.stdout
