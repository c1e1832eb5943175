"""What the paper names as future work: every configuration in extensions/, planned as it is, and run in a tiny form."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.workflow.project import ROOT

pytestmark = pytest.mark.workflow
NAMES = sorted(path.stem for path in (ROOT / "extensions").glob("*.yaml"))
RUNS = {
    "larger_networks": 2, "larger_rate": 2, "mixed_precision": 1, "number_of_classes": 9, "rate_over_batch_size": 18,
    "regression": 6,
}  # fmt: skip
KEPT = ("larger_rate", "mixed_precision")  # compared with a kept run of conv
ONE_SEED = ("larger_networks", "larger_rate", "mixed_precision")
SMALL_FC = {"arguments": {"hidden_widths": [8] * 4}}
SMALL_CONV = {"channels": [4] * 4, "hidden_widths": [8] * 2}
TINY = {
    "rate_over_batch_size": {"architectures": {f"fc_rate_0_{r}": SMALL_FC for r in ("003125", "0125", "05", "2")}},
    "number_of_classes": {"architectures": {"fc": {"hidden_widths": [8] * 4}}},
    "regression": {"architectures": {"fc": {"hidden_widths": [8] * 4}, "fc_squared_error": SMALL_FC}},
    "larger_networks": {"step_checkpoints": False},
    "mixed_precision": {"architectures": {"conv_bfloat16": {"arguments": SMALL_CONV}}},
    "larger_rate": {
        "architectures": {f"conv_rate_0_{r}": {"arguments": SMALL_CONV} for r in ("002", "004")},
        "measurements": {"hessian": {"checkpoints": [0]}},
    },
}
LONG = ("larger_networks", "number_of_classes", "rate_over_batch_size")  # hundreds of jobs, or large networks
TRAINING, TEST = 300, 50


def script(*arguments, project):
    """docs/reproduction/extensions.py, of this checkout, on the results of a project."""
    command = [sys.executable, ROOT / "docs/reproduction/extensions.py", *arguments]
    return subprocess.run(command, cwd=project.path, env=project.environment, capture_output=True, text=True)


def test_every_extension_has_a_tiny_form_and_an_answer():
    assert set(NAMES) == set(RUNS) == set(TINY)
    assert all(name in (ROOT / "docs/workflow.md").read_text() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_its_comment_is_one_that_snakemake_takes(name, project):
    text = (project.path / "extensions" / f"{name}.yaml").read_text()
    command = f"snakemake --profile profiles/local --configfile extensions/{name}.yaml"
    assert f"#   {command}\n" in text
    assert yaml.safe_load(text)["pathvars"]["results"] == f"results/{name}"
    arguments = [sys.executable, "-m", *command.split(), "-n", "--quiet", "rules", "--cores", "2"]
    done = subprocess.run(arguments, cwd=project.path, env=project.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"run.metrics +{RUNS[name]}\b", done.stdout + done.stderr)


@pytest.fixture
def tiny(request, project):
    """An extension on a few images, as far as its runs, the tables of them and the claims; and its name."""
    name, generator = request.param, np.random.default_rng(0)
    (project.path / "data").mkdir()
    training = 64 if name == "larger_networks" else TRAINING
    size = (3, 32, 32) if name in ONE_SEED else (28, 28)
    arrays = {}
    for split, samples in (("train", training), ("test", TEST)):
        labels = np.arange(samples) % 10
        noise = generator.integers(0, 100, (samples, *size))
        arrays[f"{split}_images"] = (noise + 15 * labels.reshape(-1, *[1] * len(size))).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    for dataset in ("mnist", "cifar10"):
        np.savez(project.path / "data" / f"{dataset}.npz", **arrays)
    overlay = {"seeds": [0], "epochs": 2, "machine": {"memory_budget": 1}} | TINY[name]
    (project.path / "tiny.yaml").write_text(yaml.safe_dump(overlay))
    tables = [f"results/{name}/tables/{table}.csv" for table in ("runs", "trimmed_eigenvalues", "claims")]
    tables += [f"results/{name}/figures/edge_of_stability.svg"] if name == "larger_rate" else []  # for the Hessian
    project.run(*tables, "--configfile", f"extensions/{name}.yaml", "tiny.yaml")
    return project, name


@pytest.mark.parametrize(
    "tiny", [pytest.param(name, marks=pytest.mark.long if name in LONG else pytest.mark.slow) for name in NAMES],
    indirect=True,
)  # fmt: skip
def test_its_runs_finish_and_are_answered(tiny):
    project, name = tiny
    done = script(name, "--results", f"results/{name}", "--to", "answers", project=project)
    assert done.returncode == 0, done.stderr
    assert (project.path / f"answers/{name}.svg").read_text().startswith("<?xml")
    found = pd.read_csv(project.path / f"answers/{name}.csv", comment="#")
    curves = pd.read_csv(project.path / f"answers/{name}_curves.csv", comment="#")
    assert (curves.groupby(["quantity", "model", "batch_size", "clock"])["time"].min() == 0).all()
    if name == "rate_over_batch_size":
        assert found.groupby(["equal", "clock"]).size().to_dict() == {
            ("rate", "epoch"): 3, ("rate", "step"): 3, ("ratio", "epoch"): 7, ("ratio", "step"): 7
        }  # fmt: skip
        assert np.isfinite(found["typical_factor"]).all()
        return
    tables = project.path / "results" / name / "tables"
    keys = ["dataset", "model", "batch_size", "seed"]
    runs = found.merge(pd.read_csv(tables / "runs.csv", comment="#"), on=keys, suffixes=("", "_expected"))
    if name == "mixed_precision":
        assert found.set_index("model")["precision"].to_dict() == {"conv": "float32", "conv_bfloat16": "bfloat16"}
        assert found["compared_until"].dropna().to_list() == [38]  # two epochs of 19 steps
    if name == "larger_rate":
        compared = found.set_index("model")
        assert compared["rate"].to_dict() == {"conv": 0.001, "conv_rate_0_002": 0.002, "conv_rate_0_004": 0.004}
        assert compared["geometric_mean"].notna().to_dict() == {
            "conv": False, "conv_rate_0_002": True, "conv_rate_0_004": True
        }  # fmt: skip
        assert (compared["largest_rate_times_sharpness"] > 0).all()
    found = found[found["model"].ne("conv") | (name not in KEPT)]
    assert len(runs) == len(found) == RUNS[name] / (1 if name in ONE_SEED else 3)
    np.testing.assert_allclose(runs["lambda_1"], runs["lambda_1_expected"])
    np.testing.assert_array_equal(runs["minimum_epoch"], runs["epoch_of_minimum"])
    np.testing.assert_allclose(runs["outlier_share"] * runs["samples"], runs["outliers"])
    if name != "larger_rate":  # whose time is another
        shown = curves[(curves["quantity"] == "share of outliers") & (curves["dataset"] == found["dataset"].iloc[0])]
        assert set(found["outlier_share"].iloc[:1]) <= set(shown["mean"])
    trimmed = pd.read_csv(tables / "trimmed_eigenvalues.csv", comment="#").rename(columns={"layer": "figure_layer"})
    trimmed = found.merge(trimmed, on=[*keys, "figure_layer"], suffixes=("", "_expected"))
    assert len(trimmed) == len(found)
    for column in ("A", "B", "decrease_percent"):
        np.testing.assert_allclose(trimmed[column], trimmed[f"{column}_expected"])
    assert found["near_zero_share"].between(0, 1).all()
    if name == "number_of_classes":
        assert found.set_index("dataset")["classes"].to_dict() == {
            "mnist_2classes": 2, "mnist_5classes": 5, "mnist": 10
        }  # fmt: skip
    if name == "regression":
        assert found.set_index("model")["loss"].to_dict() == {
            "fc": "cross_entropy", "fc_squared_error": "squared_error"
        }  # fmt: skip


def test_without_finished_runs_the_script_says_so(project):
    done = script("regression", "--results", "nowhere", project=project)
    assert done.returncode == 1
    assert "nowhere: finished runs of this extension expected, found none" in done.stderr
