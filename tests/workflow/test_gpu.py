"""The grid as `make gpu` runs it: interrupted when the time of a call is up, and gone on with in the next."""

import re
import time
from pathlib import Path

import pytest
from benchmarks import gpu

pytestmark = pytest.mark.workflow
RUN = "results/runs/digits-fc/bs256/seed0"


def test_it_is_the_grid_of_the_paper(project):
    gpu.write_grid(project.path / "grid.yaml", Path("kept"), Path("data"))
    output = project.run("-n", "--resources", f"gpus={gpu.JOBS}")
    assert "kept/grid/results/runs/cifar10-conv/bs256/seed2/epochs0761-0800/checkpoints" in output
    assert "device=cuda" in output


def test_without_gpus_none_are_asked_for_and_jobs_stay_jobs(project):
    """Whatever a profile sets; and a memory budget below a GiB is none that is rounded to 0."""
    project.write_grid(machine={"device": "cpu", "memory_budget": 0.5})
    output = project.run("-n", "--set-resources", "per_sample_gradients:gpus=4")
    training = output[output.index("rule train:") :]
    assert "memory_budget=512, gpus=0" in training
    jobs = [line for line in output.splitlines() if line.strip().startswith("resources:")]
    assert jobs
    assert not [line for line in jobs if re.search(r"gpus=[1-9]", line)]
    assert "localrule train" not in output


@pytest.mark.slow
def test_snakemake_stops_and_goes_on(project, tmp_path, monkeypatch):
    project.write_grid(epochs=100)  # 50 jobs in a row, far more than a machine does in the first call
    monkeypatch.chdir(project.path)
    for name, value in project.additions.items():
        monkeypatch.setenv(name, value)
    step = gpu.Step("grid", project.command(f"{RUN}/metrics.csv"))
    kept = gpu.Kept(tmp_path / "kept", "a GPU")

    gpu.drive([step], kept, time.monotonic() + 74, grace=60)
    assert kept.state(step)["state"] == "stopped"
    before = {path: path.stat().st_mtime_ns for path in project.path.glob(f"{RUN}/*/metrics.csv")}
    finished = sorted(before)[:-1]  # the job of the last one may not have ended
    assert len(before) < 49

    first = 2 * len(before) + 1  # one more block: all of them would take minutes
    following = f"{RUN}/epochs{first:04}-{first + 1:04}/metrics.csv"
    step = gpu.Step("grid", project.command(following))
    gpu.drive([step], kept, time.monotonic() + 300, grace=20)
    assert kept.state(step)["state"] == "done"
    assert (project.path / following).exists()
    assert all(path.stat().st_mtime_ns == before[path] for path in finished)
