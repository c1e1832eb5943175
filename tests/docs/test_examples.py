"""The scripts and the notebook in examples/ run, and the notebook shows what it prints."""

import copy
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from tests.docs.code_blocks import ROOT, agree

EXAMPLES = ROOT / "examples"
Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example as `python examples/SCRIPT OPTIONS` does, for the lines that it prints."""

    def lines(script: str, *options: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *options])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return lines


def test_own_model_finds_the_wrong_labels(run: Run, tmp_path: Path) -> None:
    _, *lines = run("own_model.py", "--epochs", "4", "--folder", "kept")
    rows = [line.split() for line in lines]
    steps = [int(row[0]) for row in rows]
    assert [float(row[1]) for row in rows] == pytest.approx([step / 32 for step in steps], abs=0.01)
    assert steps == sorted(steps)
    assert {0, 1, 2, 4, 8, 16, 32, 64, 96, 128} == set(steps)
    assert len(list((tmp_path / "kept").glob("*.pt"))) == len(steps)
    shares = [int(row[-1].rstrip("%")) for row in rows]
    assert shares[0] <= 3  # ten of 1,000 samples
    assert shares[-1] >= 30


def test_stopping_early_stops_at_the_share_that_was_asked_for(run: Run) -> None:
    *epochs, last = run("stopping_early.py", "--share", "0.05")
    assert last == f"stopped after epoch {len(epochs)}"
    outliers = [float(share) for line in epochs for share in re.findall(r"([\d.]+)% outliers", line)]
    assert len(outliers) == len(epochs)
    assert all(share < 5 for share in outliers[:-1])
    assert outliers[-1] >= 5


@pytest.mark.slow
def test_mislabelled_images_are_found_by_each_score_beside_cleanlab(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    images, labels = load_digits(return_X_y=True)
    images = np.pad(
        (images * 15).astype(np.uint8).reshape(-1, 8, 8).repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2))
    )
    arrays = {"train_images": images[:1500], "train_labels": labels[:1500]}
    np.savez(tmp_path / "mnist.npz", **arrays, test_images=images[1500:], test_labels=labels[1500:])
    options = ["--data-dir", str(tmp_path), "--samples", "1000", "--epochs", "3", "--folds", "2"]
    *_, last = run("mislabelled/experiment.py", "mnist", *options)
    assert last.startswith("cleanlab finds")
    found = pd.read_csv(tmp_path / "mislabelled" / "mnist.csv")
    assert set(found["score"]) == {"loss", "grand", "el2n", "a_x", "outlier_share", "cleanlab"}
    assert sorted(found["epoch"].unique()) == [1, 2, 3]
    mean = found.query("over == 'mean' and epoch == 3").set_index("score")
    assert (mean.loc[["loss", "el2n", "cleanlab"], "average_precision"] > 0.5).all()  # by chance 0.1
    assert (tmp_path / "mislabelled" / "mnist.png").stat().st_size > 10_000


def rows(lines: list[str]) -> list[list[float]]:
    """Step, training loss, lambda_1 and outliers, as a watched training prints them."""
    found = [re.fullmatch(r" *(\d+) +([\d.]+) +([\d.]+) +(\d+)", line) for line in lines]
    return [[float(part) for part in match.groups()] for match in found if match]


@pytest.mark.slow
def test_a_lightning_training_is_measured(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("fishertail.integrations.lightning")
    lines = run("lightning_digits.py", "--epochs", "1", "--folder", "kept")
    steps, losses, *_ = zip(*rows(lines), strict=True)
    assert steps == (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45)
    assert losses[-1] < losses[0] / 2
    assert (tmp_path / "kept" / "spectrum.csv").exists()


@pytest.mark.slow
def test_a_transformer_is_measured_in_hugging_faces_trainer(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("fishertail.integrations.transformers")
    lines = run("transformers_tiny.py", "--epochs", "1", "--samples", "200", "--folder", "kept")
    steps, _, eigenvalues, _ = zip(*rows(lines), strict=True)
    assert steps == (0, 1, 2, 3, 4, 6)
    assert all(value > 0 for value in eigenvalues)
    assert (tmp_path / "kept" / "tables" / "spectrum.csv").exists()


@pytest.mark.slow
def test_karakida_finds_the_slopes_of_theory(run: Run, tmp_path: Path) -> None:
    lines = run("karakida.py", "--widths", "50", "100", "200", "400", "--seeds", "2", "--picture", "slopes.svg")
    found = {row[0]: [float(number) for number in row[1:]] for row in (line.split() for line in lines[-3:])}
    assert found["mean"] == pytest.approx([-1, 0, -1], abs=0.1)
    assert found["second_moment"] == pytest.approx([0, 0, 0], abs=0.15)
    assert found["largest"] == pytest.approx([1, 0, 1], abs=0.1)
    assert (tmp_path / "slopes.svg").stat().st_size > 10_000


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    manager = pytest.importorskip("jupyter_client.manager")
    shown = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    executed = copy.deepcopy(shown)
    kernel = manager.AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(tmp_path / "kernel"))
    nbclient.NotebookClient(executed, timeout=300, km=kernel).execute()

    def printed(notebook: Any) -> list[str]:
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return [output["text"] for output in outputs if output.get("name") == "stdout"]  # not progress bars

    assert len(printed(shown)) == 2
    for expected, found in zip(printed(shown), printed(executed), strict=True):
        assert agree(expected, found), found
    pictures = [output for cell in executed.cells for output in cell.get("outputs", []) if "data" in output]
    assert len(pictures) == 3
