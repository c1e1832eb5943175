"""Runs kept as tables take the place of runs computed anew, bit for bit, and only where they fit the grid."""

import shutil
import subprocess
import sys

import pytest

from tests.workflow.project import Project

pytestmark = pytest.mark.workflow
OVER_ALL_RUNS = ("figures/", "tables/", "report/")
RUN = "kept/runs/digits-fc/bs256/seed0"


def keep(project: Project) -> None:
    command = [sys.executable, "-m", "fishertail.kept_runs", "kept"]
    done = subprocess.run(command, cwd=project.path, env=project.environment, capture_output=True, text=True)
    assert done.stdout == "kept digits-fc/bs256/seed0\n", done.stderr


@pytest.fixture
def kept(finished) -> Project:
    """A project whose run is kept, and gone from the results, with everything over all runs."""
    keep(finished)
    for folder in ("runs", *OVER_ALL_RUNS):
        shutil.rmtree(finished.path / "results" / folder)
    finished.write_grid(kept=["kept"])
    return finished


def test_kept_tables_give_the_same_bits_with_nothing_trained(finished_once, kept):
    expected = {name: content for name, content in finished_once.results().items() if name.startswith(OVER_ALL_RUNS)}
    output = kept.run()
    assert "rule train:" not in output
    assert kept.results().items() >= expected.items()
    assert not (kept.path / "results" / "runs").exists()
    assert kept.rules_to_run() == {}


def test_kept_tables_stand_beside_runs_to_compute(kept):
    kept.write_grid(kept=["kept"], seeds=[0, 1])
    rules = kept.rules_to_run()
    assert (rules["train"], rules["trimmed_eigenvalues"], rules["claims"]) == (2, 1, 1)


def test_old_blocks_are_neither_kept_nor_left(finished):
    made = finished.path / RUN.replace("kept", "results")
    for old in (made / "epochs0003-0003", finished.path / RUN / "epochs0001-0001"):
        old.mkdir(parents=True)
    keep(finished)
    assert sorted(path.name for path in (finished.path / RUN).glob("epochs*")) == ["epochs0001-0002", "epochs0003-0004"]


def test_an_incomplete_run_is_named_and_refused(kept):
    (kept.path / RUN / "outliers.csv").unlink()
    output = kept.run("-n", check=False)
    assert f"kept: {RUN}: outliers.csv expected, not found" in output


def test_a_missing_block_and_a_broken_record_are_named(kept):
    shutil.rmtree(kept.path / RUN / "epochs0003-0004")
    assert f"kept: {RUN}: epochs0003-0004/metrics.csv, epochs0003-0004/spectrum.csv" in kept.run("-n", check=False)
    (kept.path / RUN / "at_minimum" / "spectrum.csv").write_text("epoch\n")
    assert f"{RUN}/at_minimum/spectrum.csv: not a file that fishertail wrote" in kept.run("-n", check=False)


def test_a_run_kept_too_short_is_refused(kept):
    kept.write_grid(kept=["kept"], epochs=6)
    output = kept.run("-n", check=False)
    assert f"kept: {RUN}: 4 epochs, expected 6 or more" in output
    kept.write_grid(kept=["kept"], epochs=2)
    assert kept.rules_to_run().keys() & {"train", "per_sample_gradients"} == set()


def test_a_run_of_another_network_is_refused(kept):
    kept.write_grid(kept=["kept"], architectures={"fc": {"learning_rate": 0.3, "hidden_widths": [16] * 4}})
    output = kept.run("-n", check=False)
    assert f"kept: {RUN}: trained with architecture" in output
    assert "0.3" in output


def test_a_folder_without_runs_is_refused(project):
    project.write_grid(kept=["nowhere"])
    assert "kept.0: a folder with finished runs in runs/ expected, found 'nowhere'" in project.run("-n", check=False)
