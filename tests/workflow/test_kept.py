"""Runs kept as tables take the place of computed runs, bit for bit, file by file, and only where they fit the grid."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fishertail.results import storage
from tests.workflow.project import Project

pytestmark = pytest.mark.workflow
OVER_ALL_RUNS = ("figures/", "tables/", "report/")
RUN = "kept/runs/digits-fc/bs256/seed0"


def keep(project: Project, *options: str) -> None:
    command = [sys.executable, "-m", "fishertail.execution.keep", "kept", *options]
    done = subprocess.run(command, cwd=project.path, env=project.environment, capture_output=True, text=True)
    assert done.stdout == "kept digits-fc/bs256/seed0\n", done.stdout + done.stderr


@pytest.fixture
def kept(finished) -> Project:
    """A project whose run is kept, and gone from the results, with everything over all runs."""
    keep(finished)
    for folder in ("runs", *OVER_ALL_RUNS):
        shutil.rmtree(finished.path / "results" / folder)
    finished.write_grid(kept=["kept"])
    return finished


@pytest.mark.slow
def test_kept_tables_give_the_same_bits_with_nothing_trained(finished_once, kept):
    expected = {name: content for name, content in finished_once.results().items() if name.startswith(OVER_ALL_RUNS)}
    output = kept.run()
    assert "rule train:" not in output
    assert kept.results().items() >= expected.items()
    assert not (kept.path / "results" / "runs").exists()
    assert kept.rules_to_run() == {}


def test_fig_6_can_be_computed_again_from_a_kept_run(kept):
    """By pandas alone: A and B come from the kept a_x as they did from those of all checkpoints."""
    a_x = pd.read_parquet(kept.path / RUN / "ax_at_minimum.parquet")
    metrics = pd.read_csv(kept.path / RUN / "metrics.csv", comment="#")
    ends = metrics[(metrics["epoch"] >= 1) & (metrics["epoch"] % 1 == 0)]
    step = ends.loc[ends["validation_loss"].idxmin(), "step"]
    assert set(a_x["step"]) == {step}
    assert a_x["sample"].tolist() == list(range(1437))
    trimmed = pd.read_csv(kept.path / RUN / "landmarks/trimmed.csv", comment="#").query("step == @step")
    both_ends = pd.read_csv(kept.path / RUN / "trimmed_both_ends.csv", comment="#").query("step == @step")
    assert list(a_x.columns) == ["step", "epoch", "sample", *trimmed["layer"]]
    for row, other in zip(trimmed.itertuples(), both_ends.itertuples(), strict=True):
        assert a_x[row.layer].dtype == np.float32
        ascending = np.sort(a_x[row.layer].to_numpy(np.float64))
        by_size = np.sort(ascending**2)
        assert by_size.mean() == pytest.approx(row.A, rel=1e-12)
        assert by_size[: 1437 - 143].mean() == pytest.approx(row.B, rel=1e-12)
        assert np.square(ascending[71:-71]).mean() == pytest.approx(other.B_both_ends, rel=1e-12)


def test_kept_tables_stand_beside_runs_to_compute(kept):
    kept.write_grid(kept=["kept"], seeds=[0, 1])
    rules = kept.rules_to_run()
    assert (rules["train"], rules["trimmed_eigenvalues_at_landmarks"], rules["claims"]) == (2, 1, 1)


def test_old_blocks_are_neither_kept_nor_left(finished):
    made = finished.path / RUN.replace("kept", "results")
    for old in (made / "epochs0003-0003", finished.path / RUN / "epochs0001-0001"):
        old.mkdir(parents=True)
    keep(finished)
    assert sorted(path.name for path in (finished.path / RUN).glob("epochs*")) == ["epochs0001-0002", "epochs0003-0004"]


@pytest.mark.slow
def test_what_a_kept_run_lacks_is_shown_as_missing_and_the_rest_is_used(kept):
    (kept.path / RUN / "outlier_samples.csv").unlink()
    (kept.path / RUN / "epochs0003-0004" / "spectrum.csv").unlink()
    kept.run()
    page = (kept.path / "results/report/index.html").read_text()
    lacks = "epochs0003-0004/spectrum.csv, outlier_samples.csv"
    assert f"digits-fc/bs256/seed0, kept in kept/runs/digits-fc/bs256/seed0: without {lacks}" in page
    assert '"lambda_1"' in page


@pytest.mark.slow
def test_a_run_goes_on_from_its_last_weights_as_if_it_had_never_stopped(finished, project):
    """On another machine: nothing is there but what was kept."""
    keep(finished, "--weights")
    shutil.copytree(finished.path / "kept", project.path / "kept")
    target = "results/runs/digits-fc/bs256/seed0"
    project.write_grid(kept=["kept"], epochs=6)
    rules = project.rules_to_run()
    assert (rules["train"], rules["per_sample_gradients"], rules["fim_eigen"]) == (1, 1, 1)
    project.run()
    assert not (project.path / target / "epochs0001-0002").exists()
    assert project.rules_to_run() == {}
    finished.write_grid(epochs=6)
    finished.run()
    for name in ("metrics.csv", "outliers.csv", "ax_statistics.csv", "ax_histogram.parquet", "outlier_samples.csv"):
        tables = [storage.read_table(p.path / target / name) for p in (finished, project)]
        assert tables[0].equals(tables[1]), name
    tables = [storage.read_table(p.path / "results/tables/claim_effects.csv") for p in (finished, project)]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_a_run_that_went_on_is_kept_as_a_whole(finished, project):
    keep(finished, "--weights")
    shutil.copytree(finished.path / "kept", project.path / "kept")
    project.write_grid(kept=["kept"], epochs=6)
    project.run()
    keep(project)
    names = ["epochs0001-0002", "epochs0003-0004", "epochs0005-0006"]
    assert sorted(path.name for path in (project.path / RUN).glob("epochs*")) == names
    assert (project.path / RUN / "last_weights.safetensors").exists() is False  # not asked for again
    shutil.rmtree(project.path / "results")
    assert not project.rules_to_run().keys() & {"train", "per_sample_gradients", "fim_eigen", "mad_curve"}


def test_a_broken_record_is_named(kept):
    (kept.path / RUN / "metrics.csv").write_text("epoch\n")
    assert f"{RUN}/metrics.csv: not a file that fishertail wrote" in kept.run("-n", check=False)


def test_a_file_of_another_run_is_refused(kept):
    path = kept.path / RUN / "outliers.csv"
    record, table = storage.read_provenance(path), storage.read_table(path)
    other = {key: value for key, value in record.items() if key != "sha256"} | {"run": record["run"] | {"seed": 1}}
    storage.write_table(table, path, other)
    output = kept.run(check=False)
    assert "a file of the run digits-fc/bs256/seed0 expected, found one of digits-fc/bs256/seed1" in output


def test_a_run_kept_by_version_0_1_is_named_with_the_way_to_convert_it(kept):
    path = kept.path / RUN / "metrics.csv"
    record = {key: value for key, value in storage.read_provenance(path).items() if key not in ("run", "sha256")}
    storage.write_table(storage.read_table(path).drop(columns="step"), path, record)
    assert "python -m fishertail.results.conversion" in kept.run("-n", check=False)


def test_a_run_kept_too_short_is_refused_without_weights(kept):
    kept.write_grid(kept=["kept"], epochs=6)
    output = kept.run("-n", check=False)
    assert f"kept: {RUN}: 4 epochs, expected 6 or more, or last_weights.safetensors to go on from" in output
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
