"""A copy of the project on the login node of a scheduler, which is started for all tests of a file."""

import json
import subprocess
import sys
from pathlib import Path

import loopback
import pytest
import yaml
from login import LoginNode

from tests.workflow.project import Project

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def scheduler(request, tmp_path_factory):
    """The scheduler that the test's module names."""
    with loopback.started(request.module.SCHEDULER, tmp_path_factory) as machine:
        yield machine


class ProjectOnLoginNode(LoginNode, Project):
    """Its Snakemake goes through the project's own profile for the scheduler, with the settings of this site."""

    def prepare(self) -> None:
        Project.new(self.path)
        for file in ("jobs.smk", "whole_node.py", "faulty.py", "on_a_gpu.py"):
            (self.path / file).write_text((HERE / file).read_text())
        self.write_grid(machine={"device": "cpu"})
        self.set_site()

    @property
    def profile(self) -> str:
        return {"gridengine": "profiles/tsubame", "slurm": "profiles/slurm"}[self.machine.name]

    def set_site(self, **changes) -> None:
        path = self.path / self.profile / "site.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | dict(self.machine.site) | changes))

    @property
    def snakemake(self) -> list[str]:
        quick = ["--seconds-between-status-checks", "2", "--latency-wait", "20", "--configfile", "grid.yaml"]
        return [sys.executable, "-m", "snakemake", "--profile", self.profile, *quick]

    @property
    def environment(self) -> dict[str, str]:
        own = LoginNode.environment.fget(self)
        return own | {"PYTHONPATH": f"{self.path / 'src'}:{own['PYTHONPATH']}"}

    def jobs(self, *targets: str, check: bool = True, **config) -> str:
        """Run targets of jobs.smk."""
        values = [f"{name}={json.dumps(value)}" for name, value in config.items()]
        return self.run("-s", "jobs.smk", *targets, *(["--config", *values] if values else []), check=check)

    def script(self, name: str) -> str:
        """What a script prints that is run on the login node."""
        process = self.machine.popen(
            sys.executable, name, cwd=self.path, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return process.communicate(timeout=300)[0].decode()


@pytest.fixture
def login(scheduler, tmp_path) -> ProjectOnLoginNode:
    return ProjectOnLoginNode(tmp_path / "login", scheduler)
