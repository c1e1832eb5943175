"""The recipes of CONTRIBUTING.md, word for word: each adds its files to a copy of the project and runs its test."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = dict(
    re.findall(r"^## (Add .*?)\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
)
LEFT_OUT = ("results", "logs", "site", "artefacts", ".*", "__pycache__", "*.egg-info", "build", "runs", "data")
SCREEN = 45  # lines
LISTED = {  # where the docs list what a recipe adds, without anybody having edited them
    "Add a data set": ("docs/reference.md", "142 + 36 wines"),
    "Add a measurement": ("docs/measurements.md", "How many samples carry lambda_1"),
    "Add a figure": ("docs/workflow.md", "`figures/gap`"),
    "Add a claim": ("docs/reference.md", "the training data are fitted"),
}

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project, as a contributor has it."""
    for part in (path for path in ROOT.iterdir() if path.name not in LEFT_OUT and not path.name.startswith(".")):
        copy = tmp_path / part.name
        if part.is_dir():
            ignored = shutil.ignore_patterns(*(name for name in LEFT_OUT if name not in ("data", "results")))
            shutil.copytree(part, copy, ignore=ignored)
        elif part.is_file():
            shutil.copy(part, copy)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "README.md", tmp_path / "results")
    return tmp_path


def run(command: list[str], project: Path) -> None:
    paths = [project / "src", project / "executor" / "src", project]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


def test_there_are_six():
    things = ("data set", "layer rule", "measurement", "figure", "claim", "scheduler")
    assert list(RECIPES) == [f"Add a {thing}" for thing in things]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works_word_for_word(name, project):
    text = RECIPES[name]
    assert len(text.splitlines()) <= SCREEN
    files = re.findall(r'^```python title="(.*?)"\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^```console\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)
    assert len(files) == 2  # the thing, and its test
    for path, content in files:
        assert not (project / path).exists()
        (project / path).write_text(content)
    program, *arguments = shlex.split(command)
    assert program == "python"
    run([sys.executable, *arguments, "-q", "-p", "no:cacheprovider"], project)
    if name in LISTED:
        page, words = LISTED[name]
        run([sys.executable, "docs/generate.py"], project)
        assert words in (project / page).read_text()
