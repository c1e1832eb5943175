"""A fresh project, and a finished one to be spoilt."""

import shutil

import pytest

from tests.workflow.project import Project


@pytest.fixture
def project(tmp_path) -> Project:
    """A fresh project, with no results."""
    path = tmp_path / "project"
    path.mkdir()
    return Project.new(path)


@pytest.fixture
def finished(finished_once, tmp_path) -> Project:
    """A copy of a project that has finished, to be spoilt."""
    path = tmp_path / "finished"
    shutil.copytree(finished_once.path, path, symlinks=True)
    return Project(path)
