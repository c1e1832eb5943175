"""What the workflow leaves behind: every file, with provenance, consistent with each other."""

import json
import re

import numpy as np
import pytest

from fishertail.results import storage

pytestmark = pytest.mark.workflow

RUN = "results/runs/digits-fc/bs256/seed0"
FIGURES = [
    "fig1_validation_accuracy", "fig2_ax_over_epochs_digits", "fig4_ax_at_minimum_digits", "fig6_trimmed_eigenvalues",
    "fig7_outliers", "table1_machine",
]  # fmt: skip


@pytest.mark.parametrize("stem", FIGURES)
def test_every_figure_is_there_twice_with_its_table(finished_once, stem):
    folder = finished_once.path / "results" / "figures"
    assert (folder / f"{stem}.svg").read_text().lstrip().startswith("<?xml")
    assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    assert len(storage.read_table(folder / f"{stem}.csv"))


def test_every_table_is_there_in_four_formats(finished_once):
    for table in (
        "table1_machine",
        "trimmed_eigenvalues",
        "runs",
        "claims",
        "claim_effects",
        "stopping",
        "stopping_runs",
    ):
        for suffix in ("csv", "parquet", "md", "tex"):
            assert (finished_once.path / "results" / "tables" / f"{table}.{suffix}").stat().st_size


def test_the_claims_in_markdown_have_as_many_cells_as_columns(finished_once):
    table = (finished_once.path / "results/tables/claims.md").read_text().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table[1:]} == {11}  # of ten columns


def test_every_file_carries_parameters_versions_and_the_hash_of_its_data(finished_once):
    data = storage.read_provenance(finished_once.path / "results/datasets/digits.safetensors")["data"]
    for path in (finished_once.path / "results").rglob("*"):
        if path.suffix in (".csv", ".parquet", ".safetensors", ".md", ".tex"):
            record = storage.read_provenance(path)
        elif path.suffix == ".svg":
            record = json.loads(re.search(r'\{"rule.*\}', path.read_text().replace("&quot;", '"')).group())
        else:
            continue
        assert record["data"] == data, path
        assert record["parameters"]["code"], path
        assert record["versions"]["torch"], path


def test_lambda_1_is_the_mean_square_of_a_x_and_a_of_fig_6(finished_once):
    spectrum = storage.read_table(finished_once.path / RUN / "landmarks/spectrum.csv").set_index("layer")
    a_x = storage.read_table(finished_once.path / RUN / "landmarks/projections.parquet")
    trimmed = storage.read_table(finished_once.path / RUN / "landmarks/trimmed.csv").set_index("layer")
    assert len(a_x) == 1437  # the tiny run stops at its lowest loss, so that the landmarks are one
    for layer in spectrum.index:
        mean_square = np.square(a_x[layer].astype(float)).mean()
        assert mean_square == pytest.approx(spectrum.loc[layer, "eigenvalue"], rel=1e-6)
        assert trimmed.loc[layer, "A"] == pytest.approx(mean_square, rel=1e-6)
        largest = np.sort(np.square(a_x[layer].astype(float)))[: 1437 - 143]
        assert trimmed.loc[layer, "B"] == pytest.approx(largest.mean(), rel=1e-6)
        assert trimmed.loc[layer, "B_resolved"] >= trimmed.loc[layer, "B"] * (1 - 1e-4)
        assert trimmed.loc[layer, "left_out"] == 143


STEPS = [0, 1, 2, 4, 6, 8, 12, 18, 24]  # 6 of an epoch: octaves inside the first two, and the ends of four


def test_time_is_the_step_and_epochs_follow_from_it(finished_once):
    for name in ("metrics.csv", "outliers.csv", "ax_statistics.csv", "ax_histogram.parquet"):
        table = storage.read_table(finished_once.path / RUN / name)
        assert sorted(table["step"].unique()) == STEPS
        np.testing.assert_array_equal(table["epoch"], table["step"] / 6)


def test_every_file_of_a_run_names_its_run(finished_once):
    run = {"dataset": "digits", "model": "fc", "batch_size": 256, "seed": 0}
    for path in (finished_once.path / RUN).rglob("*.*"):
        assert storage.read_provenance(path)["run"] == run, path


def test_histograms_count_every_sample_at_every_checkpoint(finished_once):
    histograms = storage.read_table(finished_once.path / RUN / "ax_histogram.parquet")
    totals = histograms.groupby(["step", "layer"])["count"].sum()
    assert len(totals) == len(STEPS) * 6
    assert (totals == 1437).all()


def test_norms_hold_every_sample_at_every_checkpoint(finished_once):
    for block, steps in (("epochs0001-0002", STEPS[:7]), ("epochs0003-0004", STEPS[7:])):
        table = storage.read_table(finished_once.path / RUN / block / "norms.parquet")
        assert table.groupby("step").size().to_dict() == dict.fromkeys(steps, 1437)
        layers = table[[f"fc{i}" for i in range(1, 6)]].to_numpy(float)
        np.testing.assert_allclose(np.linalg.norm(layers, axis=1), table["network"], rtol=1e-6)


def test_the_report_holds_every_figure_with_its_caption(finished):
    finished.run("--report", "report.html")
    page = (finished.path / "report.html").read_text()
    for stem in FIGURES:
        assert f"{stem}.svg" in page
    assert "Bears on claim" in page
