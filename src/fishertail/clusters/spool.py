"""Files about submitted jobs, below .snakemake of the working directory, which login and compute nodes share.

A token, drawn at submission, names the files of one job: job numbers come again when a scheduler is set up anew.
"""

import os
from contextlib import suppress
from pathlib import Path

SPOOL = Path(".snakemake") / "cluster"


def path(folder: str, name: str) -> Path:
    """A file of a folder, which is made."""
    where = SPOOL / folder
    where.mkdir(parents=True, exist_ok=True)
    return where / name.replace("/", "_")


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


def wrapped(script: str, token: str, modules: list[str]) -> str:
    """The script that is submitted: it loads modules, runs Snakemake's, and leaves the exit code for whoever asks.

    With the exit code in a file, no accounting is needed, which some sites do not have.
    """
    loads = [". /etc/profile", *(f"module load {module} || exit 1" for module in modules)] if modules else []
    marker = path("exit", token).absolute()
    lines = [
        "#!/bin/bash",
        *loads,
        "(",
        script.rstrip("\n"),
        ") </dev/null",
        "code=$?",
        f"echo $code > '{marker}.part' && mv '{marker}.part' '{marker}'",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"
