"""What was submitted for which outputs, and how it ended: files below .snakemake, which outlive Snakemake.

Login and compute nodes share them. A job's files are named by a token drawn at submission, since schedulers reuse their
numbers.
"""

import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

FOLDER = Path(".snakemake") / "queue"
_FILES_LATE = 60.0  # seconds by which a shared file system may be late


@dataclass
class Entry:
    """One submission."""

    key: str  # the same for the same outputs
    stamp: str  # the same for the same parameters, inputs and code
    name: str  # of the job; it ends with a part of the token
    log: str  # the file to which the scheduler writes what the job prints
    outputs: list[str] = field(default_factory=list)
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    job: str = ""  # the scheduler's id, once it has answered
    cancelled: bool = False


class Ledger:
    """The entries and the files that jobs leave, in a folder that is created if needed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder.absolute()
        self._codes: dict[str, int] = {}
        for name in ("entries", "scripts", "started", "exit", "final"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def scripts(self) -> Path:
        """The folder of the submitted scripts."""
        return self._folder / "scripts"

    def script(self, entry: Entry) -> Path:
        """The script that is submitted."""
        return self.scripts / f"{entry.name}.sh"

    def started(self, entry: Entry) -> Path:
        """The folder that a job creates when it starts, with its id in a file; only one process can create a folder."""
        return self._folder / "started" / entry.token

    def exit(self, entry: Entry) -> Path:
        """The file with the job's exit code."""
        return self._folder / "exit" / entry.token

    def final(self, entry: Entry) -> Path:
        """The file that a job creates if its failure would happen again in another attempt."""
        return self._folder / "final" / entry.token

    def note(self, entry: Entry) -> None:
        """Write an entry, in place of an earlier one of its key."""
        write(self._folder / "entries" / entry.key, json.dumps(asdict(entry)))

    def entries(self) -> list[Entry]:
        """All submissions not forgotten yet.

        Raises:
            ValueError: an entry cannot be read, whose job may be running.
        """
        return [_entry(path) for path in sorted((self._folder / "entries").iterdir()) if path.suffix != ".part"]

    def forget(self, entry: Entry) -> None:
        """Remove the files of a job whose end Snakemake has recorded, except the mark of one that never started."""
        noted = self._folder / "entries" / entry.key
        if noted.exists() and _entry(noted).token == entry.token:
            noted.unlink(missing_ok=True)
        of_key = self.scripts.glob(f"{entry.key}.*")
        for path in (self.exit(entry), self.final(entry), self.script(entry), *of_key):
            path.unlink(missing_ok=True)
        if (self.started(entry) / "job").exists():
            (self.started(entry) / "job").unlink(missing_ok=True)
            with suppress(OSError):
                self.started(entry).rmdir()

    def exit_codes(self) -> dict[str, int]:
        """The exit codes of all jobs that have ended, by token. Lists one folder and reads one file per new job."""
        names = [name for name in os.listdir(self._folder / "exit") if not name.endswith(".part")]
        known = self._codes
        self._codes = {name: known[name] for name in names if name in known}
        for name in names:
            if name not in known:
                with suppress(OSError, ValueError):
                    self._codes[name] = int((self._folder / "exit" / name).read_text(encoding="utf-8"))
        return dict(self._codes)

    def fence(self, entry: Entry) -> str | None:
        """Make sure that a job which has not started never does its work.

        This is how a submission without an answer is settled, when it is unknown whether the scheduler has the job.

        Returns:
            The scheduler's id of a job that has already started, otherwise None.
        """
        mark = self.started(entry)
        try:
            mark.mkdir()
            (mark / "given-up").touch()
        except FileExistsError:
            deadline = time.monotonic() + _FILES_LATE
            while time.monotonic() < deadline and not (mark / "given-up").exists():
                with suppress(OSError):
                    if job := (mark / "job").read_text(encoding="utf-8").strip():
                        return job
                time.sleep(0.2)
        return None


def _entry(path: Path) -> Entry:
    """An entry written by this version of the executor or by another."""
    known = {each.name for each in fields(Entry)}
    return Entry(
        **{name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name in known}
    )


def write(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
