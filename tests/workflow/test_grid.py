"""The grid before it runs: dry runs, faults of the configuration, the linter's view."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from fishertail.grid import checks
from tests.workflow.project import ROOT

pytestmark = pytest.mark.workflow


def snakemake(*arguments, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_the_papers_grid_after_a_clone(project):
    code, output = snakemake("-n", "--quiet", "rules", cwd=project.path)
    assert code == 0, output
    grid = checks.load(yaml.safe_load((project.path / "config.yaml").read_text()))
    assert re.search(rf"^train +{sum(len(grid.blocks(run)) for run in grid.runs)}$", output, re.MULTILINE), output


@pytest.mark.parametrize("profile", ["demo", "local", "tsubame", "slurm", "pbs"])
def test_profiles_need_no_scheduler_for_a_dry_run(profile, project):
    code, output = snakemake("-n", "--profile", f"profiles/{profile}", cwd=project.path)
    assert code == 0, output


@pytest.mark.parametrize("profile", ["tsubame", "slurm", "pbs"])
def test_the_demo_runs_through_the_profile_of_a_cluster(profile, project):
    """As docs/clusters.md has it: the overlay of the demo takes nothing from the profile."""
    arguments = ["--profile", f"profiles/{profile}", "--configfile", "profiles/demo/grid.yaml"]
    code, output = snakemake("-n", *arguments, cwd=project.path)
    assert code == 0, output
    assert re.search(r"prepare.dataset +1\b", output), output
    assert re.search(r"train +8\b", output), output  # a job for each run


@pytest.mark.parametrize("profile", ["slurm", "pbs"])
def test_nothing_is_submitted_without_an_account(profile, project):
    """Also where --configfile takes the place of any other: the settings of the site are no part of it."""
    arguments = ["--profile", f"profiles/{profile}", "--configfile", "profiles/demo/grid.yaml"]
    code, output = snakemake(*arguments, cwd=project.path)
    assert code != 0
    assert "account: the group, project or account to charge expected, found none" in output
    assert "Traceback" not in output


def test_the_grid_is_cut_from_the_command_line(project):
    code, output = snakemake("-n", "--quiet", "rules", "--config", "seeds=[0]", "datasets=[mnist]", cwd=project.path)
    assert code == 0, output
    assert re.search(r"prepare_dataset +1\b", output), output


def test_neither_torch_nor_matplotlib_is_imported_while_the_snakefile_is_parsed(project):
    """Snakemake itself imports pandas; tests/test_layout.py says what our own code imports."""
    code = (
        "import sys; sys.argv = ['snakemake', '-n', '--quiet', 'all']\n"
        "from snakemake.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(str({'torch', 'matplotlib'} & sys.modules.keys() or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.path, env=project.environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_all_faults_of_the_configuration_in_one_error_at_a_dry_run(project):
    project.write_grid(
        datasets=["digits", "nothing"],
        batch_sizes=[2000],
        seeds=[-1],
        measurements={"spectrum": {"layers": ["fc9"]}, "unknown": 1},
    )
    output = project.run("-n", check=False)
    for fault in ("seeds.0: ", "measurements.unknown: unknown key", "datasets.1: unknown data set 'nothing'"):
        assert fault in output
    assert "batch_sizes.0: at most 1437 (the training samples of digits) expected, found 2000" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "disabled", [["trimmed_eigenvalues", "outlier_samples"], ["ax_histogram", "ax_statistics", "layers"]]
)
def test_without_a_measurement_everything_else_is_made(finished, disabled):
    finished.write_grid(measurements={name: {"enabled": False} for name in disabled})
    for folder in ("figures", "tables", "report"):
        shutil.rmtree(finished.path / "results" / folder)
    finished.run()
    page = (finished.path / "results" / "report" / "index.html").read_text()
    made = {path.name for path in (finished.path / "results" / "figures").glob("*.svg")}
    assert ("fig6_trimmed_eigenvalues.svg" in made) == ("trimmed_eigenvalues" not in disabled)
    assert ("fig2_ax_over_epochs_digits.svg" in made) == ("ax_histogram" not in disabled)
    assert "fig7_outliers.svg" in made
    assert "Outliers arise rapidly" in page


@pytest.mark.slow
def test_a_model_from_a_factory_and_data_from_a_file(project):
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(80) % 3
    images = rng.integers(0, 80, (80, 9, 7), dtype=np.uint8) + (50 * labels)[:, None, None].astype(np.uint8)
    (project.path / "data").mkdir()
    arrays = {f"{s}_{k}": v for s in ("train", "test") for k, v in (("images", images), ("labels", labels))}
    np.savez(project.path / "data" / "blobs.npz", **arrays)
    (project.path / "src" / "own_models.py").write_text(
        "from torch import nn\n\n\n"
        "def make(shape, classes, width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(63, width), nn.Tanh(), nn.Linear(width, classes))\n"
    )
    mine = {"factory": "own_models:make", "arguments": {"width": 5}, "learning_rate": 0.1, "figure_layer": "1"}
    project.write_grid(datasets=["blobs"], models=["mine"], architectures={"mine": mine}, batch_sizes=[8], epochs=2)
    project.run()
    assert (project.path / "results" / "figures" / "fig2_ax_over_epochs_blobs.svg").exists()


@pytest.mark.slow
def test_spectra_of_some_epochs_hold_the_landmarks_too(project):
    from fishertail.results import storage

    project.write_grid(epochs=3, measurements={"spectrum": {"checkpoints": [0]}})
    project.run("results/runs/digits-fc/bs256/seed0/landmarks/spectrum.csv")
    run = project.path / "results" / "runs" / "digits-fc" / "bs256" / "seed0"
    metrics = storage.read_table(run / "metrics.csv")
    assert set(storage.read_table(run / "epochs0001-0002" / "spectrum.csv")["step"]) == {0}
    assert not (run / "epochs0003-0003" / "spectrum.csv").exists()
    ends = metrics[metrics["epoch"].isin([1, 2, 3])].set_index("epoch")["validation_loss"]
    landmarks = storage.read_table(run / "landmarks" / "spectrum.csv")
    assert set(landmarks["epoch"]) == {ends.idxmin(), 3} | {2 * ends.idxmin()} & {2, 3}


@pytest.mark.slow
def test_workers_share_a_block_and_change_no_byte(project):
    run = "results/runs/digits-fc/bs256/seed0/epochs0001-0002"
    files = [f"{run}/{name}" for name in ("norms.parquet", "projections.parquet", "eigenvectors.safetensors")]
    project.run(*files)
    alone = [(project.path / file).read_bytes() for file in files]
    project.write_grid(machine={"cpu_workers": 2})
    assert "Nothing to be done" in project.run("-n", *files)
    project.run("--forcerun", "per_sample_gradients", "--", *files)
    assert [(project.path / file).read_bytes() for file in files] == alone
    log = (project.path / "logs" / "fim_eigen" / "digits-fc-bs256-seed0-epochs0001-0002.log").read_text()
    assert log.count("submitit INFO") >= 2
