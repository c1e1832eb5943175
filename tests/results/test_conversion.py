"""Kept runs of version 0.1, converted: the same numbers by step, and a run that the archive takes."""

import sys

import numpy as np
import pandas as pd
import pytest

from fishertail.errors import StorageError
from fishertail.measurements.measurement import tables
from fishertail.results import archive, storage
from fishertail.results.conversion import convert, main
from fishertail.training.metrics import METRICS

RUN = {"dataset": "digits", "model": "fc", "batch_size": 256, "seed": 3}
ARCHITECTURE = {"learning_rate": 0.1, "hidden_widths": [16], "initialisation": "torch"}
OLD = {"channels": None, "factory": None, "arguments": {}}  # keys that version 0.1 wrote for every network
BLOCKS = [[0, 1], [2, 3]]
PER_EPOCH = 6  # ceil(1437 / 256)
LAYERS = ["fc1", "fc2", "network"]


def rows(epochs, **columns):
    parts = [pd.DataFrame({"epoch": epoch, "layer": LAYERS, **columns}) for epoch in epochs]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def old(tmp_path):
    """A folder as version 0.1 kept runs in it, with the lowest validation loss after epoch 2."""
    folder = tmp_path / "old" / "runs" / "digits-fc" / "bs256" / "seed3"
    run = {**RUN, "architecture": ARCHITECTURE | OLD}

    def write(name, frame, **parameters):
        storage.write_table(
            frame, folder / name, {"rule": "r", "parameters": parameters, "data": ["d"], "versions": {}}
        )

    losses = {
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "validation_loss": [2.0, 1.0, 0.5, 0.7],
        "validation_accuracy": 0.5,
    }
    metrics = pd.DataFrame({"epoch": range(4), **losses})
    write("metrics.csv", metrics, code="old")
    spectrum = {"rank": 1, "residual": 0.0, "converged": True, "certified": False, "products": 3, "trace": 2.0}
    for epochs in BLOCKS:
        block = f"epochs{max(epochs[0], 1):04d}-{epochs[-1]:04d}"
        write(f"{block}/metrics.csv", metrics[metrics["epoch"].isin(epochs)], run=run, epochs=epochs)
        found = rows(epochs, **spectrum)
        write(f"{block}/spectrum.csv", found.assign(eigenvalue=found["epoch"] + 0.5)[found["epoch"] != 2], run=run)
    write("at_minimum/spectrum.csv", rows([2], eigenvalue=2.5, **spectrum), run=run, blocks=BLOCKS)
    trimmed = {
        "A": 2.5,
        "B": 1.0,
        "decrease_percent": 60.0,
        "B_anew": 1.5,
        "decrease_anew_percent": 40.0,
        "left_out": 143,
    }
    write("trimmed_eigenvalues.csv", rows([2], **trimmed), run=run)
    counts = {"median": 1.0, "mad": 0.1, "outliers_distance": 4, "outliers_norm": 5, "samples": 1437}
    write("outliers.csv", rows(range(4), **counts), threshold=10)
    sizes = dict.fromkeys(["near_zero_share", "largest", "median", "quantile_90", "quantile_99"], 0.5)
    write("ax_statistics.csv", rows([0, 1, 2, 3], samples=1437, **sizes), near_zero=0.1)
    bins = {"bin_left": -np.inf, "bin_right": np.inf, "count": 1437}
    write("ax_histograms.parquet", rows([0, 1, 3], **bins), bins={})
    write("at_minimum/ax_histogram.parquet", rows([2], **bins), bins={})
    samples = {
        "epoch": [0, 2],
        "sample": [7, 8],
        "label": 1,
        "loss": 0.5,
        "correct": True,
        "norm": 9.0,
        "a_x": [0.1, 0.2],
    }
    write("outlier_samples.csv", pd.DataFrame(samples), options={"layer": "fc1"})
    return tmp_path / "old"


@pytest.fixture
def new(old, tmp_path):
    assert convert(old, tmp_path / "new") == ["digits-fc/bs256/seed3"]
    return tmp_path / "new" / "runs" / "digits-fc" / "bs256" / "seed3"


def test_time_is_the_step_and_nothing_is_lost(new):
    known = {METRICS.file: METRICS} | {table.file: table for table in tables().values()}
    for path in new.rglob("*.*"):
        table = storage.read_table(path)
        known[path.name].check(table, str(path))
        np.testing.assert_array_equal(table["step"], PER_EPOCH * table["epoch"])
    assert storage.read_table(new / "metrics.csv")["step"].tolist() == [0, 6, 12, 18]
    assert storage.read_table(new / "landmarks" / "spectrum.csv")["eigenvalue"].tolist() == [2.5] * 3
    assert storage.read_table(new / "landmarks" / "trimmed.csv")["B_resolved"].tolist() == [1.5] * 3
    assert storage.read_table(new / "ax_histogram.parquet")["step"].unique().tolist() == [0, 6, 12, 18]
    assert storage.read_table(new / "outlier_samples.csv")["fc1"].tolist() == [0.1, 0.2]
    assert storage.read_table(new / "epochs0002-0003" / "spectrum.csv")["step"].unique().tolist() == [18]


def test_every_file_names_its_run(new):
    assert all(storage.read_provenance(path)["run"] == RUN for path in new.rglob("*.*"))


def test_the_archive_takes_it_with_the_network_of_today(new):
    assert [block.path for block in archive.blocks(new)] == ["epochs0001-0001", "epochs0002-0003"]
    assert list(archive.faults(new, RUN | {"architecture": ARCHITECTURE}, 3)) == []
    (fault,) = archive.faults(new, RUN | {"architecture": ARCHITECTURE | {"hidden_widths": [17]}}, 3)
    assert "trained with architecture" in fault


def test_a_broken_file_is_named(old, tmp_path):
    path = old / "runs" / "digits-fc" / "bs256" / "seed3" / "outliers.csv"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(StorageError, match=r"outliers\.csv: not a file that fishertail wrote"):
        convert(old, tmp_path / "new")


def test_the_command_says_in_a_sentence_that_there_is_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["conversion", str(tmp_path), str(tmp_path / "new")])
    with pytest.raises(SystemExit) as ending:
        main()
    expected = f"error: {tmp_path}: a folder with kept runs in runs/ expected, found none\n"
    assert (ending.value.code, capsys.readouterr().err) == (2, expected)


def test_the_old_runs_stay_as_they_are(old, tmp_path):
    before = {path: path.read_bytes() for path in old.rglob("*.*")}
    convert(old, tmp_path / "new")
    assert {path: path.read_bytes() for path in old.rglob("*.*")} == before
