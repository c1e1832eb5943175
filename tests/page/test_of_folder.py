"""The page of a folder of tables: what is there is shown, what is not is named, and nothing is invented."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from fishertail.errors import StorageError
from fishertail.page import of_folder
from tests.page import runs


@pytest.fixture
def page_of(tmp_path):
    def made(given, name="mine", prepare=lambda folder: None):
        folder = runs.write(tmp_path / name, given)
        prepare(folder)
        of_folder.write(folder, tmp_path / "page.html")
        return tmp_path / "page.html"

    return made


def test_what_other_tables_are_enough_for_is_computed_from_them(page_of):
    given = runs.tables()
    data = runs.shown(page_of(given))
    (run,) = data["runs"]
    assert (run["name"], run["steps"], run["minimum"]) == ("mine", list(runs.STEPS), 8)
    assert (run["per_epoch"], run["samples"]) == (runs.PER_EPOCH, runs.SAMPLES)
    assert list(run["layers"]) == list(runs.LAYERS)
    edges = [float(edge) for edge in data["edges"]]
    for layer in runs.LAYERS:
        histogram, norms = run["layers"][layer]["histogram"], given["norms"].set_index("step")[layer]
        assert histogram["steps"] == list(runs.STEPS)
        for step, (first, *counts) in zip(histogram["steps"], histogram["counts"], strict=True):
            a_x = given["projections"].set_index("step").loc[step, layer]
            expected = [((a_x >= low) & (a_x < high)).sum() for low, high in pairwise(edges)]
            assert counts == expected[first : first + len(counts)]
            assert sum(counts) == runs.SAMPLES
        outliers = run["layers"][layer]["curves"]["outliers"]
        for step, count in zip(outliers["steps"], outliers["values"], strict=True):
            distance = (norms.loc[step] - norms.loc[step].median()).abs()
            assert count == (distance > 10 * distance.median()).sum()
    assert run["outliers"]
    assert data["images"] == {}


def test_every_column_of_metrics_is_an_instrument(page_of):
    given = runs.tables()
    given["metrics"] = given["metrics"].assign(learning_rate=0.1, note="text")
    data = runs.shown(page_of(given))
    assert data["instruments"]["learning_rate"]["title"] == "learning rate"
    assert data["runs"][0]["curves"]["learning_rate"]["values"] == [0.1] * len(runs.STEPS)
    assert "note" not in data["instruments"]


def test_a_run_without_metrics_epochs_labels_or_projections_has_its_page(page_of):
    given = runs.tables()
    norms = given["norms"].drop(columns=["label", "correct"]).assign(epoch=np.nan)
    (run,) = runs.shown(page_of({"norms": norms, "spectrum": given["spectrum"].assign(epoch=np.nan)}))["runs"]
    assert (run["minimum"], run["per_epoch"], run["fit"]) == (None, None, [])
    assert run["layers"]["first"]["histogram"]["steps"] == []
    assert run["layers"]["network"]["curves"]["outliers"]["steps"] == list(runs.STEPS)
    given["norms"] = norms
    (run,) = runs.shown(page_of({name: given[name] for name in ("norms", "projections", "spectrum")}))["runs"]
    assert {row[1] for rows in run["outliers"].values() for row in rows} == {None}


def test_zero_gradients_and_one_sample_are_no_errors(page_of):
    given = runs.tables()
    for layer in runs.LAYERS:
        given["norms"][layer] = 0.0
        given["projections"][layer] = 0.0
    given["spectrum"]["eigenvalue"] = 0.0
    one = {name: table[table["sample"] == 0] if "sample" in table else table for name, table in given.items()}
    for tables in (given, one):
        (run,) = runs.shown(page_of(tables))["runs"]
        assert run["layers"]["first"]["curves"]["spectrum"]["values"] == [0] * len(runs.STEPS)
        assert run["layers"]["first"]["curves"]["outliers"]["values"] == [0] * len(runs.STEPS)
        assert run["outliers"] == {}


def test_a_checkpoint_that_is_no_number_is_named_and_the_others_are_shown(page_of):
    given = runs.tables()
    given["projections"].loc[given["projections"]["step"] == 4, "second"] = np.nan
    given["failures"] = pd.DataFrame([{"step": 4, "epoch": 1.0, "measurement": "hessian", "reason": "out of memory"}])
    page = page_of(given)
    (run,) = runs.shown(page)["runs"]
    assert run["layers"]["first"]["histogram"]["steps"] == [step for step in runs.STEPS if step != 4]
    assert run["failures"] == [{"step": 4, "measurement": "hessian", "reason": "out of memory"}]
    assert "ax_histogram at step 4: projections: numbers expected, found NaN" in page.read_text()


def test_broken_and_foreign_files_are_named(page_of):
    def prepare(folder):
        spectrum = folder / "spectrum.csv"
        spectrum.write_text(spectrum.read_text().replace("0.", "1.", 1))
        (folder / "mine.csv").write_text("step,temperature\n0,20\n")
        (folder / "metrics.csv").write_text("step,validation_loss\n0,2.5\n3,1.5\n")  # of another program

    page = page_of(runs.tables(), prepare=prepare)
    (run,) = runs.shown(page)["runs"]
    assert run["minimum"] == 3
    assert run["curves"]["validation_loss"] == {"steps": [0, 3], "values": [2.5, 1.5]}
    assert "spectrum.csv: not a file that fishertail wrote" in page.read_text()
    assert "mine.csv: not a table that fishertail knows" in page.read_text()
    assert "spectrum" not in run["layers"]["first"]["curves"]


def test_blocks_of_epochs_are_read_as_one_run(tmp_path):
    given = runs.tables()
    for name, steps in (("epochs0001-0001", (0, 1, 2, 4)), ("epochs0002-0004", (8, 12, 16)), ("landmarks", (8,))):
        runs.write(tmp_path / "run" / name, {key: rows[rows["step"].isin(steps)] for key, rows in given.items()})
    of_folder.write(tmp_path / "run", tmp_path / "blocks.html")
    of_folder.write(runs.write(tmp_path / "top" / "run", given), tmp_path / "top.html")
    assert runs.shown(tmp_path / "blocks.html") == runs.shown(tmp_path / "top.html")


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(StorageError, match="a folder of tables expected, found none"):
        of_folder.write(tmp_path / "nowhere", tmp_path / "page.html")
    with pytest.raises(StorageError, match="tables of a run expected, such as"):
        of_folder.write(tmp_path, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
