"""The login node of a scheduler, with a Snakemake workflow that uses the executor."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
PROFILE = {
    "executor": "queue",
    "queue-site": "site.yaml",
    "jobs": 300,
    "seconds-between-status-checks": 2,
    "latency-wait": 20,
    "retries": 2,
    "rerun-incomplete": True,
    "keep-going": True,
    "show-failed-logs": True,
    "default-resources": {"runtime": 2, "mem_mb": 200},
}


class LoginNode:
    """A folder with jobs.smk, a profile and the settings of the site, on the machine of a scheduler."""

    def __init__(self, path: Path, machine):
        self.path, self.machine = path, machine
        path.mkdir(parents=True, exist_ok=True)
        self.queries = path / "queries.log"
        self.prepare()
        (path / "out").mkdir(exist_ok=True)
        (path / "bin").mkdir(exist_ok=True)
        self._count_queries()

    def prepare(self) -> None:
        """Write the files that Snakemake needs."""
        shutil.copy(HERE / "jobs.smk", self.path / "Snakefile")
        (self.path / "profile").mkdir(exist_ok=True)
        (self.path / "profile/config.yaml").write_text(yaml.safe_dump(PROFILE))
        self.set_site()

    def set_site(self, **changes) -> None:
        (self.path / "profile/site.yaml").write_text(yaml.safe_dump(dict(self.machine.site) | changes))

    @property
    def snakemake(self) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--profile", "profile"]

    @property
    def environment(self) -> dict[str, str]:
        own = self.machine.environment
        path = os.pathsep.join([str(self.path / "bin"), str(Path(sys.executable).parent), own["PATH"]])
        return own | {"PATH": path, "QUERIES": str(self.queries), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE)}

    def start(self, *arguments: str, log: str = "output.log") -> subprocess.Popen:
        with (self.path / log).open("w") as file:
            return self.machine.popen(
                *self.snakemake,
                *arguments,
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                preexec_fn=_hear_signals,
            )

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run Snakemake to its end and return its output. It must succeed, or fail with `check=False`."""
        process = self.start(*arguments)
        return self.end(process, check=check)

    def end(self, process: subprocess.Popen, *, check: bool = True, seconds: float = 900) -> str:
        """Wait for the end of Snakemake and return its output."""
        code = process.wait(timeout=seconds)
        assert (code == 0) == check, self.output()[-6000:]
        return self.output()

    def output(self) -> str:
        return (self.path / "output.log").read_text()

    def snakemake_pid(self) -> int:
        """The id of the main process as seen from outside. Jobs have no --profile; nsenter is its parent."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "create_time"]):
            command = process.info["cmdline"] or []
            if process.info["cwd"] == str(self.path) and "--profile" in command and command[0] != "nsenter":
                found.append((process.info["create_time"], process.pid))
        assert found, "no Snakemake runs"
        return min(found)[1]  # its forks, about to become other programs, are younger

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.snakemake_pid(), number)

    def kill(self, process: subprocess.Popen) -> None:
        """End Snakemake as a power cut of the login node or kill -9 does, and unlock its folder."""
        self.signal(signal.SIGKILL)
        process.wait(timeout=30)
        self.run("--unlock")

    def leave(self) -> None:
        """End what a failed test has left."""
        with suppress(AssertionError):
            self.signal(signal.SIGKILL)
        for job in self.machine.job_ids():
            with suppress(RuntimeError):  # it has just ended
                self.machine.cancel(job)
        wait_for(lambda: not self.machine.job_ids(), 60, "an empty queue")

    def runs(self, program: str) -> bool:
        """Whether a program slowed by `delay` is running at present."""
        slow = str(self.path / "bin" / program)
        return any(slow in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))

    def executions(self) -> list[str]:
        """What jobs that must not run twice have noted."""
        path = self.path / "out" / "executions"
        return sorted(path.read_text().split()) if path.exists() else []

    def _count_queries(self) -> None:
        """Wrap the program that lists jobs in one that notes each call."""
        asks = self.machine.program_that_asks
        program = self.path / "bin" / asks
        whole = shutil.which(asks, path=self.machine.environment["PATH"]) or f"/usr/bin/{asks}"
        program.write_text(f'#!/bin/bash\necho "$(date +%s.%N) $*" >> "$QUERIES"\nexec {whole} "$@"\n')
        program.chmod(0o755)

    def delay(self, program: str, seconds: int) -> None:
        """Delay the answer of a scheduler's program."""
        slow = self.path / "bin" / program
        answer = f'own=$(dirname "$0")\nPATH=${{PATH//"$own":/}}\nanswer=$({program} "$@")\ncode=$?\n'
        slow.write_text(f'#!/bin/bash\n{answer}sleep {seconds}\necho "$answer"\nexit $code\n')
        slow.chmod(0o755)


def wait_for(condition, seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not there after {seconds} s")
        time.sleep(0.1)


def _hear_signals() -> None:
    """A process that a shell starts in the background ignores some signals, and so do its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
