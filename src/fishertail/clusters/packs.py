"""Several jobs on one node, each on GPUs of its own, where a site gives whole nodes only.

The first job that needs fewer GPUs than a node has opens a pack: a job of the scheduler that waits for the node. Until
it has run for a minute, or its GPUs are taken, others join, by a file in the folder of the pack. On the node, the pack
runs its members side by side. All steps are renames, so that none is taken twice or lost.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from fishertail.clusters import spool

JOINING = 60  # seconds after its start in which a pack takes members
_POLL = 0.5  # seconds
_PREFIX = "pack"


@dataclass(frozen=True)
class Member:
    """A job within a pack; its id is pack:PACK:TOKEN."""

    pack: str
    token: str

    @property
    def id(self) -> str:
        return f"{_PREFIX}:{self.pack}:{self.token}"

    @property
    def scheduler_job(self) -> str:
        return job_of(self.pack)

    def exit_code(self) -> int | None:
        return spool.exit_code(self.token)


def member_of(job: str) -> Member | None:
    """The member of a pack that a job's id names; None where it is the scheduler's own."""
    prefix, _, rest = job.partition(":")
    return Member(*rest.split(":")) if prefix == _PREFIX and ":" in rest else None


def open_pack(minutes: int) -> str:
    """A new pack for jobs of so many minutes at most, into which the first is put before it is submitted."""
    name = uuid.uuid4().hex[:12]
    _folder(name).mkdir(parents=True)
    spool.write(_folder(name) / "minutes", str(minutes))
    return name


def submitted(pack: str, job: str) -> None:
    """From now on others can join."""
    spool.write(_folder(pack) / "job", job)
    (_folder(pack) / "open").touch()


def job_of(pack: str) -> str:
    """The scheduler's job that runs a pack; "" until it is submitted."""
    return (spool.read(_folder(pack) / "job") or "").strip()


def close(pack: str) -> None:
    """Let nobody join any more: its job has ended, or will not start."""
    (_folder(pack) / "open").unlink(missing_ok=True)


def joinable(gpus: int, minutes: int, node_gpus: int) -> list[str]:
    """Open packs with room for a job, the fullest first. Members have their GPUs and minutes in their files' names."""
    found = []
    for entry in _folder("").glob("*/open"):
        taken = _taken(entry.parent)
        if taken + gpus <= node_gpus and minutes <= int(spool.read(entry.parent / "minutes") or 0):
            found.append((-taken, entry.parent.name))
    return [name for _, name in sorted(found)]


def put(member: Member, script: str, gpus: int, minutes: int, log: str) -> bool:
    """Add a member; false where the pack closed meanwhile."""
    folder, token = _folder(member.pack), member.token
    waiting = folder / f"{token}.{gpus}.{minutes}.sh"
    spool.write(folder / f"{token}.log_path", log)
    spool.write(waiting, script)
    if not (folder / "job").exists():  # this is the first, and opens it
        return True
    try:
        os.link(folder / "open", folder / f"{token}.joined")  # a file server that only read would answer from memory
    except OSError:  # closed: the pack has taken it, or it is taken back
        return not _renamed(waiting, folder / f"{token}.withdrawn")
    return True


def cancel(member: Member) -> bool:
    """Take a member out; True where nothing is left of its pack, whose job may be ended."""
    folder = _folder(member.pack)
    spool.write(folder / f"{member.token}.cancelled", "")
    tokens = {path.name.split(".")[0] for path in folder.glob("*.log_path")}
    return all((folder / f"{t}.cancelled").exists() or spool.exit_code(t) is not None for t in tokens)


def script_of(pack: str) -> str:
    """What the job of a pack runs."""
    program, folder = shlex.quote(sys.executable), shlex.quote(str(_folder(pack).absolute()))
    return f"exec {program} -m fishertail.clusters.packs {folder}\n"


def _folder(pack: str) -> Path:
    return spool.SPOOL / "packs" / pack


def _taken(folder: Path) -> int:
    """GPUs of all members that have not ended."""
    return sum(int(path.name.split(".")[1]) for state in ("sh", "running") for path in folder.glob(f"*.{state}"))


def run(folder: Path) -> None:
    """On the node: run the members side by side until all have ended and no more may join."""
    free, running = _visible_gpus(), {}
    closing = time.monotonic() + JOINING
    while running or (folder / "open").exists() or list(folder.glob("*.sh")):
        idle = not running and bool(list(folder.glob("*.ended"))) and not list(folder.glob("*.sh"))
        if time.monotonic() > closing or not free or idle:
            (folder / "open").unlink(missing_ok=True)  # who joined before that is found below, or in the next turn
        for waiting in sorted(folder.glob("*.sh"), key=lambda path: path.name):
            token, gpus = waiting.name.split(".")[0], int(waiting.name.split(".")[1])
            taken = waiting.with_suffix(".running")
            if gpus <= len(free) and _renamed(waiting, taken):
                own, free = free[:gpus], free[gpus:]
                running[_start(folder, token, taken, own)] = (taken, own)
        for process in [process for process in running if process.poll() is not None]:
            taken, own = running.pop(process)
            _leave_exit_code(folder, taken.name.split(".")[0], process.returncode)
            taken.rename(taken.with_suffix(".ended"))
            free += own
        for process, (taken, _) in running.items():
            if (folder / f"{taken.name.split('.')[0]}.cancelled").exists():
                os.killpg(process.pid, signal.SIGTERM)
        time.sleep(_POLL)


def _leave_exit_code(folder: Path, token: str, code: int) -> None:
    """Of a member that was killed before it could, so that nobody waits for it as long as the pack runs."""
    marker = folder.parents[1] / "exit" / token
    if not marker.exists():
        marker.parent.mkdir(exist_ok=True)
        spool.write(marker, f"{code if code > 0 else 128 - code}\n")


def _renamed(source: Path, target: Path) -> bool:
    """Whether the file was still there."""
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True


def _start(folder: Path, token: str, script: Path, gpus: list[str]) -> subprocess.Popen:
    log = spool.read(folder / f"{token}.log_path") or os.devnull
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    with open(log, "w") as output:
        return subprocess.Popen(["bash", str(script)], stdout=output, stderr=output, env=environment, process_group=0)


def _visible_gpus() -> list[str]:
    """The GPUs of the node: those that the scheduler gave, or all that there are."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return named.split(",")
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True
        )
    except FileNotFoundError:
        sys.exit("pack: the scheduler set no CUDA_VISIBLE_DEVICES, and there is no nvidia-smi to ask")
    if done.returncode or not done.stdout.strip():
        sys.exit(f"pack: nvidia-smi finds no GPU on this node: {(done.stdout + done.stderr).strip()}")
    return done.stdout.split()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
