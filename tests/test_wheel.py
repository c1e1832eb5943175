"""A built wheel, installed into an empty environment outside the checkout: the README's example, and a page."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.project import ROOT, TINY

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment that has the wheel, with what the workflow needs, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, checkout / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, checkout, cwd=folder)
    shutil.rmtree(checkout)
    (wheel,) = folder.glob("fishertail-*.whl")
    run(sys.executable, "-m", "venv", folder / "environment", cwd=folder)
    python = folder / "environment" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-r", ROOT / "envs" / "lock.txt", cwd=folder)
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[workflow]", cwd=folder)
    return python


def test_the_example_of_the_readme(python, tmp_path):
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "example.py").write_text("".join(code for kind, code in blocks if kind == "python"))
    (shown,) = [text for kind, text in blocks if kind == "text"]
    assert run(python, "example.py", cwd=tmp_path).splitlines()[0] == shown.splitlines()[0]


def test_types_are_for_its_users(python, tmp_path):
    where = "import fishertail, pathlib; print(pathlib.Path(fishertail.__file__).with_name('py.typed').exists())"
    assert run(python, "-c", where, cwd=tmp_path) == "True\n"


def test_the_command_is_installed(python, tmp_path):
    assert re.fullmatch(r"fishertail \d+\.\d+\.\d+\n", run(python.with_name("fishertail"), "--version", cwd=tmp_path))


def test_a_page_is_made_without_the_checkouts_code(python, tmp_path):
    for part in ("Snakefile", "config.yaml", "workflow", "envs"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(TINY))
    run(python, "-m", "snakemake", "--configfile", "grid.yaml", "--cores", "2", "--quiet", "all", cwd=tmp_path)
    assert (
        "Where the eigenvalues of the Fisher information come from"
        in (tmp_path / "results" / "report" / "index.html").read_text()
    )
