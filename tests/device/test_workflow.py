"""Rules of the workflow on a simulated accelerator."""

import os

import pandas as pd
import pytest

from fishertail.results import storage
from tests.device.simulated import NAME
from tests.workflow.project import Project

RUN = "results/runs/digits-fc/bs256/seed0"
TARGETS = [f"{RUN}/epochs0001-0002/norms.parquet", f"{RUN}/epochs0001-0002/spectrum.csv"]
pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture
def project(plugin, tmp_path, monkeypatch) -> Project:
    for name, value in plugin.items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    (tmp_path / "project").mkdir()
    project = Project.new(tmp_path / "project")
    paths = os.pathsep.join([str(project.path / "src"), plugin["PYTHONPATH"]])
    monkeypatch.setattr(Project, "additions", {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    return project


def tables(project: Project) -> tuple[pd.DataFrame, pd.DataFrame]:
    norms, spectrum = (project.path / target for target in TARGETS)
    return storage.read_table(norms), pd.read_csv(spectrum, comment="#")


def test_training_norms_and_eigenpairs(project):
    project.write_grid(machine={"device": "cpu"})
    project.run(*TARGETS)
    norms, spectrum = tables(project)
    for folder in ("results", ".snakemake", "logs"):
        (project.path / folder).rename(project.path / f"{folder}-cpu")
    project.write_grid(machine={"device": NAME})
    project.run(*TARGETS)
    norms_there, spectrum_there = tables(project)
    pd.testing.assert_frame_equal(norms_there, norms, rtol=1e-3, atol=1e-5)
    assert spectrum_there["eigenvalue"].to_numpy() == pytest.approx(spectrum["eigenvalue"].to_numpy(), rel=1e-3)
    logs = [path.read_text() for path in (project.path / "logs").rglob("*.log")]
    assert sum("GPUs: Simulated accelerator" in log for log in logs) == 3


def test_a_device_that_is_not_there(project):
    project.write_grid(machine={"device": f"{NAME}:1"})
    output = project.run(TARGETS[0], check=False)
    assert f"machine.device: a device that torch finds here (cpu, {NAME}:0) expected, found '{NAME}:1'" in output
