"""Files about submitted jobs, below .snakemake of the working directory, which login and compute nodes share.

A token, drawn at submission, names the files of one job: job numbers come again when a scheduler is set up anew.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fishertail.clusters.request import RUN_VARIABLE

SPOOL = Path(".snakemake") / "cluster"


def folder(name: str) -> Path:
    """A folder, which is made."""
    where = SPOOL / name
    where.mkdir(parents=True, exist_ok=True)
    return where


def path(kind: str, name: str) -> Path:
    """A file of a folder, which is made."""
    return folder(kind) / name.replace("/", "_")


def write(target: Path, text: str) -> None:
    """All of it or nothing."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(target)


def read(target: Path) -> str | None:
    with suppress(OSError):
        return target.read_text()
    return None


def exit_code(token: str) -> int | None:
    """What a script left when it ended by itself; None while it runs, and after it was killed."""
    text = read(path("exit", token))
    return int(text) if text and text.strip().isdigit() else None


@dataclass(frozen=True)
class Submission:
    """What was last submitted for some outputs."""

    token: str
    stamp: str  # of its parameters
    job: str = ""  # unknown until the scheduler answers

    def note(self, key: str) -> None:
        write(path("ledger", key), json.dumps(asdict(self)))

    @classmethod
    def noted(cls, key: str) -> "Submission | None":
        text = read(path("ledger", key))
        return cls(**json.loads(text)) if text else None


def give_up(token: str) -> str | None:
    """See to it that a job which has not started never does its work; the job's id where it has started.

    So is a job treated whose submission was not answered: whether the scheduler has it, nobody knows. A job begins by
    making a folder, which only one can make.
    """
    mark = path("started", token)
    try:
        mark.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 60  # seconds that a shared file system may be late
        while (job := (read(mark / "job") or "").strip()) == "" and time.monotonic() < deadline:
            time.sleep(0.2)
        return job or None
    return None


def note_own_fault(log: str, text: str) -> None:
    """That a job failed by a fault which would come again in this run of Snakemake."""
    write(path("faults", log), f"{os.environ[RUN_VARIABLE]}\n{text}")


def own_fault(log: str) -> str | None:
    """What the log of an earlier attempt in this run said, where it ended by a fault of its own."""
    run, _, text = (read(path("faults", log)) or "").partition("\n")
    return text if run and run == os.environ.get(RUN_VARIABLE) else None


def wrapped(script: str, token: str, job: str, modules: list[str]) -> str:
    """The script that is submitted: it loads modules, runs Snakemake's, and leaves the exit code for whoever asks.

    With the exit code in a file, no accounting is needed, which some sites do not have.

    Args:
        job: the id of the job, as its shell has it.
    """
    loads = [". /etc/profile", *(f"module load {module} || exit 1" for module in modules)] if modules else []
    exit_marker, started = (path(kind, token).absolute() for kind in ("exit", "started"))
    lines = [
        "#!/bin/bash",
        f"mkdir '{started}' || {{ echo 'this job was given up before it started' >&2; exit 1; }}",
        f"echo \"{job}\" > '{started}/job'",
        *loads,
        "(",
        script.rstrip("\n"),
        ") </dev/null",
        "code=$?",
        f"echo $code > '{exit_marker}.part' && mv '{exit_marker}.part' '{exit_marker}'",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
