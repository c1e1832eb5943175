"""A scheduler that runs for all tests of a file, and a copy of the project on its login node."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from tests.schedulers import loopback
from tests.workflow.project import Project

pytest.register_assert_rewrite("tests.schedulers.behaviour")

HERE = Path(__file__).parent
SCHEDULERS = {"gridengine": loopback.GridEngine, "slurm": loopback.Slurm}


@pytest.fixture(scope="module")
def scheduler(request, tmp_path_factory):
    """The scheduler that the test's module names, started; skips where it cannot be."""
    kind = SCHEDULERS[request.module.SCHEDULER]
    reason = loopback.why_not(kind)
    if reason:
        pytest.skip(f"{kind.name}: {reason}")
    machine = kind(tmp_path_factory.mktemp(kind.name))
    try:
        machine.start()
        yield machine
    finally:
        machine.down()


class LoginNode(Project):
    """A project whose Snakemake runs inside the machine of a scheduler, through its profile."""

    def __init__(self, path: Path, machine: loopback.Namespace):
        Project.new(path)
        super().__init__(path)
        self.machine = machine
        for file in ("jobs.smk", "whole_node.py", "faulty.py"):
            shutil.copy(HERE / file, path / file)
        (path / "out").mkdir()
        self.queries = path / "queries.log"
        self._count_queries()
        self.set()

    def set(self, *, cluster: dict | None = None, **changes) -> None:
        """Write the grid and the settings of the site."""
        settings = yaml.safe_load((self.path / f"profiles/{self.machine.profile}/settings.yaml").read_text())
        site = settings["cluster"] | self.machine.settings | (cluster or {})
        machine = settings["machine"] | {"device": "cpu"}
        self.write_grid(cluster=site, machine=machine, **changes)

    def command(self, *arguments: str) -> list[str]:
        snakemake = [sys.executable, "-m", "snakemake", "--profile", f"profiles/{self.machine.profile}"]
        quick = ["--seconds-between-status-checks", "2", "--latency-wait", "20", "--configfile", "grid.yaml"]
        if self.machine.name == "slurm":
            # without an accounting database; where there is one, the plugin asks sacct
            quick += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
        return [*snakemake, *quick, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        own = self.machine.environment
        path = os.pathsep.join([str(self.path / "bin"), str(Path(sys.executable).parent), own["PATH"]])
        return own | {"PATH": path, "QUERIES": str(self.queries)} | self.additions

    def run(self, *arguments: str, check: bool = True) -> str:
        process = self.start(*arguments)
        code = process.wait(timeout=1800)
        output = (self.path / "output.log").read_text()
        assert (code == 0) == check, output[-6000:]
        return output

    def start(self, *arguments: str) -> subprocess.Popen:
        with (self.path / "output.log").open("w") as log:
            return self.machine.popen(
                *self.command(*arguments),
                cwd=self.path,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=_hear_ctrl_c,
            )

    def script(self, name: str) -> str:
        """What a script prints that is run on the login node."""
        process = self.machine.popen(
            sys.executable, name, cwd=self.path, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return process.communicate(timeout=300)[0].decode()

    def jobs(self, *targets: str, check: bool = True, **config) -> str:
        """Run targets of jobs.smk."""
        return self.run(*self.arguments(*targets, **config), check=check)

    def arguments(self, *targets: str, **config) -> list[str]:
        values = [f"{name}={json.dumps(value)}" for name, value in config.items()]
        return ["-s", "jobs.smk", *targets, *(["--config", *values] if values else [])]

    def snakemake_pid(self) -> int:
        """Of the main process, as seen from outside; jobs have no profile, and nsenter stays before it."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "create_time"]):
            command = process.info["cmdline"] or []
            if process.info["cwd"] == str(self.path) and "--profile" in command and command[0] != "nsenter":
                found.append((process.info["create_time"], process.pid))
        assert found, "no Snakemake runs"
        return min(found)[1]  # a fork of it, which is about to become another program, is younger

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.snakemake_pid(), number)

    def runs(self, program: str) -> bool:
        """Whether a scheduler's program that `delay` slows is just being asked."""
        slow = str(self.path / "bin" / program)
        return any(slow in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))

    def executions(self) -> list[str]:
        """What the jobs note that must not be run twice."""
        path = self.path / "out" / "executions"
        return path.read_text().split() if path.exists() else []

    def _count_queries(self) -> None:
        """Put a program before the one that asks for jobs, which notes each call."""
        (self.path / "bin").mkdir()
        asks = self.machine.program_that_asks()
        if asks is None:
            return
        program = self.path / "bin" / asks
        program.write_text(f'#!/bin/bash\necho "$(date +%s.%N) $*" >> "$QUERIES"\nexec /usr/bin/{asks} "$@"\n')
        program.chmod(0o755)

    def delay(self, program: str, seconds: int) -> None:
        """Have the answer of a scheduler's program come late."""
        slow = self.path / "bin" / program
        answer = f'own=$(dirname "$0")\nPATH=${{PATH//"$own":/}}\nanswer=$({program} "$@")\ncode=$?\n'
        slow.write_text(f'#!/bin/bash\n{answer}sleep {seconds}\necho "$answer"\nexit $code\n')
        slow.chmod(0o755)


def _hear_ctrl_c() -> None:
    """Which a process ignores that a shell started in the background, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def login(scheduler, tmp_path) -> LoginNode:
    path = tmp_path / "login"
    path.mkdir()
    return LoginNode(path, scheduler)
