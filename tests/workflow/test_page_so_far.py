"""The page of a grid that has not finished."""

import shutil

import pytest

from tests.page.runs import shown

PAGE = "results/report/so_far.html"
COMMAND = ("--nolock", "--forcerun", "page_so_far", "--", "page_so_far")  # as in the Makefile


@pytest.mark.slow
def test_it_shows_what_is_there_and_lists_what_is_to_come(finished):
    run = finished.path / "results/runs/digits-fc/bs256/seed0"
    shutil.rmtree(run / "epochs0003-0004")
    shutil.rmtree(run / "landmarks")
    for name in ("metrics.csv", "outliers.csv", "ax_histogram.parquet", "outlier_samples.csv"):
        (run / name).unlink()
    shutil.rmtree(finished.path / "results/tables")
    finished.write_grid(seeds=[0, 1])
    finished.run(*COMMAND)
    text = (finished.path / PAGE).read_text()
    (found,) = shown(finished.path / PAGE)["runs"]
    assert found["steps"][-1] == 24  # of ax_statistics.csv
    assert found["curves"]["train_loss"]["steps"][-1] == 12
    assert found["layers"]["fc4"]["histogram"]["steps"] == found["layers"]["network"]["curves"]["outliers"]["steps"]
    assert "2 of 2 runs are not finished" in text
    assert "digits-fc/bs256/seed0: epoch 2 of 4; files so far: outliers 0 of 1, spectrum 1 of 3" in text
    assert "digits-fc/bs256/seed1: not begun" in text
    assert not (run / "outliers.csv").exists()


@pytest.mark.slow
def test_it_is_renewed_and_of_nothing_there_it_says_so(project):
    project.run(*COMMAND)
    text = (project.path / PAGE).read_text()
    assert "No checkpoint of any run has been measured yet." in text
    assert "digits-fc/bs256/seed0: not begun" in text
    project.write_grid(seeds=[3])
    project.run(*COMMAND)
    assert "digits-fc/bs256/seed3: not begun" in (project.path / PAGE).read_text()
