"""The environments agree: the pip lock, what is made of it for conda, the image, and what the project asks for."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "envs" / name).read_text().splitlines()
    found = dict(line.strip().split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found.items()}


def test_conda_has_the_packages_of_the_lock():
    spec = importlib.util.spec_from_file_location("write_conda", ROOT / "envs" / "write_conda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "envs/conda.yaml").read_text() == module.text(), "make envs"


def test_all_have_the_same_python():
    conda = next(d for d in yaml.safe_load((ROOT / "envs/conda.yaml").read_text())["dependencies"] if "python=" in d)
    image = re.search(r"From: python:(\d+\.\d+)-", (ROOT / "envs/apptainer.def").read_text())[1]
    make = re.search(r"PYTHON \?= python(\S+)", (ROOT / "Makefile").read_text())[1]
    assert conda == f"python={image}" == f"python={make}"
    assert "/opt/fishertail/lock.txt" in (ROOT / "envs/apptainer.def").read_text()


def test_the_workflows_extra_has_those_of_the_library():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("cluster", "curvature", "examples", "page", "plot"):
        assert set(extras[extra]) <= set(extras["workflow"]), extra


def test_no_index_is_asked_for_fishertail():
    """The name is not ours there."""
    folders = {"docs": "*.md", "examples": "*.py", "src": "*.py"}
    paths = [ROOT / "README.md", *(path for folder, kind in folders.items() for path in (ROOT / folder).rglob(kind))]
    assert not [path for path in paths if re.search(r"pip install ['\"]?fishertail", path.read_text())]


@pytest.mark.parametrize(("extra", "locks"), [("workflow", ["lock.txt"]), ("test", ["lock.txt", "lock-test.txt"])])
def test_the_lock_has_what_the_project_asks_for(extra, locks):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {name: version for lock in locks for name, version in pins(lock).items()}
    for text in project["dependencies"] + project["optional-dependencies"][extra]:
        wanted = Requirement(text)
        version = pinned[re.sub(r"[-_.]+", "-", wanted.name).lower()]
        assert wanted.specifier.contains(version), f"{text}: {version} is pinned"
