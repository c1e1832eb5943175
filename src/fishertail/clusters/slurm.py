"""Slurm, by Snakemake's own plugin: what it is told by the settings, and jobs that a killed Snakemake left.

The plugin calls `sbatch`. The one in `bin` beside this file, put first on PATH, looks whether the same job is still in
the queue, which neither Snakemake nor the plugin does, and only then calls Slurm's.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fishertail.clusters import spool

_BIN = Path(__file__).parent / "bin"
_LIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "STAGE_OUT"}


def resources(gpus: int, cluster) -> dict[str, str | int]:
    """Resources of a rule as the plugin names them, from the key `cluster` of the configuration."""
    queues = {count: name for count, name in cluster.queues.items() if count >= gpus and (count > 0) == (gpus > 0)}
    found: dict[str, str | int] = {"nodes": 1}
    if gpus:
        types = {count: entry for count, entry in cluster.resource_types.items() if count >= gpus}
        found["gres"] = types[min(types)] if types else f"gpu:{gpus}"
        found["cpus_per_task"] = gpus * cluster.cpus_per_gpu
    if queues:
        found["slurm_partition"] = queues[min(queues)]
    if cluster.account:
        found["slurm_account"] = cluster.account
    if cluster.options:
        found["slurm_extra"] = " ".join(cluster.options)
    return found


def put_first_on_path() -> None:
    """Have the plugin call the `sbatch` of this project."""
    os.environ["PATH"] = os.pathsep.join([str(_BIN), os.environ.get("PATH", "")])


def sbatch(arguments: list[str]) -> None:
    """Print the number of a job: of the one with the same comment that is still in the queue, or a new one.

    The plugin's comment names rule and wildcards, and it asks for jobs by their name, which is that of the run: an
    adopted job takes the new run's name.
    """
    options = _options(arguments)
    comment, run = options.get("--comment"), options.get("--job-name")
    if not comment or not run:
        sys.exit(_call(arguments).returncode)
    key = hashlib.sha256(f"{os.getcwd()}\n{comment}".encode()).hexdigest()[:24]
    ledger = spool.path("slurm", key)
    known = (spool.read(ledger) or "").strip()
    if known and _is_live(known, comment, run) and _renamed(known, run):
        print(f"{comment}: adopted job {known}, which is still in the queue", file=sys.stderr)
        print(known)
        return
    done = _call(arguments, capture=True)
    sys.stdout.write(done.stdout)
    job = re.match(r"(\d+)", done.stdout)
    if done.returncode == 0 and job:
        spool.write(ledger, job.group(1))
    sys.exit(done.returncode)


def _options(arguments: list[str]) -> dict[str, str]:
    """Long options and their values, as --name value and --name=value."""
    found = {}
    for name, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if name.startswith("--"):
            found.setdefault(*(name.split("=", 1) if "=" in name else (name, value)))
    return found


def _is_live(job: str, comment: str, run: str) -> bool:
    """Whether a job of another run is in the queue: of its own run's jobs Snakemake knows itself what became."""
    done = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T|%j|%k"], capture_output=True, text=True)
    if done.returncode and "Invalid job id" not in done.stderr:
        sys.exit(f"squeue does not say whether job {job} still runs, which would write the same files: {done.stderr}")
    state, _, rest = done.stdout.strip().partition("|")
    name, _, found = rest.partition("|")
    return state in _LIVE and name != run and found == comment


def _renamed(job: str, run: str) -> bool:
    done = subprocess.run(["scontrol", "update", f"JobId={job}", f"JobName={run}"], capture_output=True)
    return done.returncode == 0


def _call(arguments: list[str], *, capture: bool = False) -> subprocess.CompletedProcess:
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != _BIN)
    program = shutil.which("sbatch", path=path)
    if program is None:
        sys.exit("sbatch is not on PATH: this profile runs on a login node of the cluster")
    output = subprocess.PIPE if capture else None
    return subprocess.run([program, *arguments], stdout=output, text=True, env=os.environ | {"PATH": path})
