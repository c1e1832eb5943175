"""A copy of the project to run Snakemake in, with a grid so small that it takes seconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

import yaml

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "config.yaml", "extensions", "workflow", "profiles", "envs", "src", "pyproject.toml"]
TINY = {
    "datasets": ["digits"],
    "models": ["fc"],
    "batch_sizes": [256],
    "seeds": [0],
    "epochs": 4,
    "epochs_per_job": 2,
    "architectures": {"fc": {"learning_rate": 0.2, "hidden_widths": [16, 16, 16, 16]}},
}


class Project:
    """A project folder and Snakemake in it."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def new(cls, path: Path) -> Self:
        """A copy of this project, with the tiny grid and no results."""
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, path / part)
        project = cls(path)
        project.write_grid()
        return project

    def write_grid(self, **changes) -> None:
        (self.path / "grid.yaml").write_text(yaml.safe_dump(TINY | changes))

    def save_every_checkpoint(self) -> None:
        """Let jobs save what they have finished at once, and wait three seconds each time: time to kill them."""
        code = self.path / "src/fishertail/execution/unfinished.py"
        text = code.read_text().replace("INTERVAL = 30.0", "INTERVAL = 0.0")
        text = text.replace("self._saved = time.monotonic()", "self._saved = time.monotonic(); time.sleep(3)")
        assert text.count("INTERVAL = 0.0") == text.count("sleep(3)") == 1
        code.write_text(text)

    def command(self, *arguments: str) -> list[str]:
        snakemake = [sys.executable, "-m", "snakemake", "--configfile", "grid.yaml", "--cores", "2"]
        return [*snakemake, "--rerun-incomplete", "--show-failed-logs", *arguments]

    @property
    def additions(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.path / "src"), "OMP_NUM_THREADS": "1"}

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | self.additions

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run Snakemake and give what it printed; a failure is the test's failure unless it is wanted."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=600
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == check, output[-6000:]
        return output

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake in a session of its own."""
        with (self.path / "output.log").open("w") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.path,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def rules_to_run(self, *arguments: str) -> dict[str, int]:
        """The rules that a dry run would run, and how often each."""
        output = self.run("-n", "--quiet", "rules", *arguments)
        stats = output.partition("Job stats:")[2].splitlines()
        counts = (line.split() for line in stats if len(line.split()) == 2 and line.split()[1].isdigit())
        return {rule: int(count) for rule, count in counts if rule not in ("total", "all")}

    def results(self) -> dict[str, bytes]:
        """The content of every result file."""
        root = self.path / "results"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
