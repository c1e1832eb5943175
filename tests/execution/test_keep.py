"""What the command keeps of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from fishertail.execution import keep
from fishertail.measurements.measurement import tables
from fishertail.results import archive, of_run, storage
from fishertail.training import checkpoints

RUN = {"dataset": "digits", "model": "fc", "batch_size": 16, "seed": 0}
PLACE = "runs/digits-fc/bs16/seed0"
WEIGHTS = {step: {"fc1.weight": torch.full((2,), float(step))} for step in (20, 30)}
OF_RUN = {"metrics.csv", "outliers.csv", "ax_histogram.parquet", "ax_statistics.csv", "outlier_samples.csv"}
OF_RUN |= {"fit.csv", "layers.csv", "drift_to_diffusion.csv", "trimmed_both_ends.csv", "ax_at_minimum.parquet"}
OF_CHECKPOINTS = {
    "spectrum.csv",
    "trimmed.csv",
    "noise_scale.csv",
    "hessian.csv",
    "true_fisher.csv",
    "true_fisher_trimmed.csv",
}
OF_CHECKPOINTS |= {"eigenvalue_statistics.csv", "data_sensitivity.csv", "subset_deviations.csv"}
OF_CHECKPOINTS |= {"eigenvalue_count.csv"}
OF_BLOCKS = {"metrics.csv", "alignment.csv"} | OF_CHECKPOINTS


@pytest.fixture
def results(tmp_path) -> Path:
    """A run of two blocks with every table that there is, and its weights."""
    place, record = tmp_path / "results" / PLACE, {"parameters": {"blocks": [[0, 1], [2, 3]]}} | of_run.identity(RUN)
    names = ["metrics.csv", *(table.file for table in tables().values() if table.suffix != "safetensors")]
    for folder in (place, place / "epochs0001-0001", place / "epochs0002-0003", place / "landmarks"):
        for name in names:
            storage.write_table(pd.DataFrame({"step": [0]}), folder / name, record)
        checkpoints.write(WEIGHTS, folder / "checkpoints.safetensors", record)
        checkpoints.write(WEIGHTS, folder / "eigenvectors.safetensors", record)
    return tmp_path / "results"


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_small_tables_are_kept_where_they_are_made(results):
    folder = results.parent / "kept"
    assert keep.keep(results, folder) == {"digits-fc/bs16/seed0": []}
    blocks = ("epochs0001-0001", "epochs0002-0003")
    expected = {f"{block}/{name}" for block in blocks for name in OF_BLOCKS}
    assert files(folder / PLACE) == OF_RUN | expected | {f"landmarks/{name}" for name in OF_CHECKPOINTS}


def test_what_is_off_by_default_is_not_missing(results):
    place = results / PLACE
    for name in ("landmarks/noise_scale.csv", "drift_to_diffusion.csv", "landmarks/trimmed.csv"):
        (place / name).unlink()
    assert keep.keep(results, results.parent / "kept") == {"digits-fc/bs16/seed0": ["landmarks/trimmed.csv"]}


def test_the_last_weights_are_those_of_the_last_step_and_name_their_run(results):
    keep.keep(results, results.parent / "kept", weights=True)
    path = results.parent / "kept" / PLACE / archive.LAST_WEIGHTS
    step, state = checkpoints.read_last(path)
    assert (step, list(storage.read_tensors(path))) == (30, ["step00000030/fc1.weight"])
    assert torch.equal(state["fc1.weight"], WEIGHTS[30]["fc1.weight"])
    of_run.check(path, storage.read_provenance(path), RUN)


def command(results: Path, *options: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "fishertail.execution.keep", "kept", *options]
    environment = os.environ | {"PYTHONPATH": str(Path(keep.__file__).parents[2])}
    return subprocess.run(arguments, cwd=results.parent, env=environment, capture_output=True, text=True)


def test_the_command(results):
    (results / PLACE / "epochs0001-0001/trimmed.csv").unlink()
    done = command(results, "--weights")
    expected = "kept digits-fc/bs16/seed0; without 1 files: epochs0001-0001/trimmed.csv, ...\n"
    assert done.stdout == expected, done.stderr
    assert archive.has(results.parent / "kept" / PLACE, archive.LAST_WEIGHTS)


def test_the_command_names_what_it_leaves_out(results):
    path = results / PLACE / "landmarks/hessian.csv"
    record = {"parameters": {"run": RUN | {"architecture": {}}}, "data": ["others"]} | of_run.identity(RUN)
    storage.write_table(storage.read_table(path), path, record)
    expected = f"left out results/{PLACE}/landmarks/hessian.csv: of a training with other data\n"
    assert command(results).stdout == f"{expected}kept digits-fc/bs16/seed0\n"


def test_the_command_says_in_a_sentence_what_is_wrong(results):
    done = command(results, "--results", "reslts")
    expected = "error: reslts: a folder with finished runs in runs/ expected, found none\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    (results / PLACE / "metrics.csv").write_text("step\n0\n")
    done = command(results)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: results/{PLACE}/metrics.csv: not a file that fishertail wrote")
    assert not (results.parent / "kept").exists()
