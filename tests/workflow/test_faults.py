"""Killed jobs, broken files, a full disk: the same command again finishes, or one error names the file."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fishertail.results import storage

pytestmark = pytest.mark.workflow

RUN = Path("results/runs/digits-fc/bs256/seed0")
BLOCK = RUN / "epochs0001-0002"
SCRIPTS = {"per_sample_gradients": "measure_block", "fim_eigen": "measure_block"}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("what was waited for did not happen")


def script_process(parent: subprocess.Popen, rule: str):
    """The process that runs the script of `rule`."""

    def find():
        assert parent.poll() is None, "Snakemake ended before"
        for process in psutil.Process(parent.pid).children(recursive=True):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if any(part.endswith(f".{SCRIPTS.get(rule, rule)}.py") for part in line) and "python" in Path(line[0]).name:
                return process
        return None

    return wait_for(find)


def started_work(project, rule):
    """Whether a job of `rule` has gone so far as to print its progress."""
    return any(path.stat().st_size for path in (project.path / "logs" / rule).glob("*.log"))


def assert_same_results(project, finished_once):
    """What is there is what an undisturbed run gave, bit for bit."""
    found, expected = project.results(), finished_once.results()
    assert found
    assert [name for name, content in found.items() if content != expected[name]] == []


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("train", "metrics.csv"),
        pytest.param("per_sample_gradients", "norms.parquet", marks=pytest.mark.slow),
        pytest.param("fim_eigen", "eigenvectors.safetensors", marks=pytest.mark.slow),
    ],
)
def test_a_killed_job_is_made_good_by_the_same_command(project, finished_once, rule, target):
    with project.start(str(BLOCK / target)) as snakemake:
        wait_for(lambda: started_work(project, rule))
        process = script_process(snakemake, rule)  # of two rules with one script, that which has begun
        process.send_signal(signal.SIGKILL)
        assert snakemake.wait(120) != 0
    assert not (project.path / BLOCK / target).exists()
    project.run(str(BLOCK / target))
    assert (project.path / BLOCK / target).exists()
    assert_same_results(project, finished_once)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "file", "saved", "message"),
    [
        (
            "train",
            "metrics.csv",
            ".train.unfinished/step00000006.checkpoints.safetensors",
            "2 of 3 epochs are already trained",
        ),
        (
            "per_sample_gradients",
            "norms.parquet",
            ".norms.unfinished/step00000002.norms.parquet",
            r"[3-9] of \d+ checkpoints are already measured",
        ),
    ],
)
def test_a_killed_job_goes_on_from_what_it_had_saved(project, finished_once, rule, file, saved, message):
    project.save_every_checkpoint()
    with project.start(str(BLOCK / file)) as snakemake:
        wait_for((project.path / BLOCK / saved).exists)
        script_process(snakemake, rule).send_signal(signal.SIGKILL)
        assert snakemake.wait(120) != 0
    assert not (project.path / BLOCK / file).exists()
    project.run(str(BLOCK / file))
    (log,) = (project.path / "logs" / rule).glob("*.log")
    assert re.search(message, log.read_text())
    assert not (project.path / BLOCK / saved).parent.exists()
    found, expected = (storage.read_table(each.path / BLOCK / file) for each in (project, finished_once))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)  # the files name their code, which is not the same


@pytest.mark.slow
def test_a_killed_snakemake_is_made_good_after_unlocking(project, finished_once):
    target = str(BLOCK / "spectrum.csv")
    with project.start(target) as snakemake:
        job = script_process(snakemake, "per_sample_gradients")
        os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait(60)
    wait_for(lambda: not job.is_running())
    project.run("--unlock")
    project.run(target)
    assert_same_results(project, finished_once)


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_the_block_size_changes_no_weight(project, finished_once, block_size):
    from fishertail.training import checkpoints

    project.write_grid(epochs_per_job=block_size)
    project.run(str(RUN / "metrics.csv"))
    last = {1: "epochs0004-0004", 3: "epochs0004-0004", 4: "epochs0001-0004"}[block_size]
    found = checkpoints.read(project.path / RUN / last / "checkpoints.safetensors", [24])[24]
    expected = checkpoints.read(finished_once.path / RUN / "epochs0003-0004" / "checkpoints.safetensors", [24])[24]
    assert all((found[name] == expected[name]).all() for name in expected)
    tables = [storage.read_table(p.path / RUN / "metrics.csv") for p in (project, finished_once)]
    assert tables[0].equals(tables[1])


DATASET = Path("results/datasets/digits.safetensors")


@pytest.mark.parametrize(
    ("name", "spoil", "reader"),
    [
        pytest.param(
            BLOCK / "checkpoints.safetensors",
            lambda content: content[: len(content) // 2],
            BLOCK / "norms.parquet",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            BLOCK / "checkpoints.safetensors",
            lambda content: content[:-9] + b"alterings",
            BLOCK / "norms.parquet",
            marks=pytest.mark.slow,
        ),
        pytest.param(BLOCK / "norms.parquet", lambda content: b"garbage", RUN / "outliers.csv", marks=pytest.mark.slow),
        pytest.param(
            BLOCK / "norms.parquet",
            lambda content: content[: len(content) // 2],
            RUN / "outliers.csv",
            marks=pytest.mark.slow,
        ),
        (RUN / "metrics.csv", lambda content: content + b"9", Path("results/figures/fig1_validation_accuracy.csv")),
        pytest.param(DATASET, lambda content: content[:-1000], BLOCK / "norms.parquet", marks=pytest.mark.slow),
    ],
    ids=["truncated checkpoint", "altered checkpoint", "garbage", "truncated table", "altered table", "data set"],
)
def test_a_broken_file_is_named_and_computed_again_once_deleted(finished, finished_once, name, spoil, reader):
    path = finished.path / name
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(spoil(path.read_bytes()))
    os.utime(path, ns=times)  # as a fault of the disk would leave it
    (finished.path / reader).unlink()
    output = finished.run(str(reader), check=False)
    assert f"error: {name}: not a file that fishertail wrote" in output
    assert not (finished.path / reader).exists()
    path.unlink()
    finished.run(str(reader))
    assert_same_results(finished, finished_once)


def test_a_diverged_run_names_itself_and_keeps_the_blocks_before(finished, finished_once):
    first = {name: content for name, content in finished_once.results().items() if "epochs0001-0002" in name}
    source = finished.path / "src" / "fishertail" / "training" / "sgd.py"
    line = "        metrics = Metrics("
    spoil = "        if step == 30:\n            next(model.parameters()).data[0] = float('nan')\n"
    spoilt = source.read_text().replace(line, spoil + line)
    assert spoilt != source.read_text()
    source.write_text(spoilt)
    finished.write_grid(epochs=6)
    output = finished.run("--rerun-triggers", "mtime", "input", check=False)
    assert (
        "error: digits-fc, batch size 256, seed 0: the loss is not finite after step 30 (epoch 5) at learning rate 0.2"
        in output
    )
    assert {name: finished.results()[name] for name in first} == first


def test_results_that_cannot_be_written_are_named_before_anything_runs(project):
    (project.path / "results").write_text("a file in the way")
    output = project.run(check=False)
    assert "results/.writable: cannot write" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_keeps_what_is_there(project, finished_once):
    results = project.path / "results"
    results.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(results)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.decode().strip()}")
    try:
        target = str(BLOCK / "eigenvectors.safetensors")
        output = project.run(target, check=False)
        assert "cannot write: " in output
        assert "No space left on device" in output
        assert_same_results(project, finished_once)
        subprocess.run(["mount", "-o", "remount,size=200m", str(results)], check=True)
        project.run(target)
        assert_same_results(project, finished_once)
    finally:
        subprocess.run(["umount", str(results)], check=True)
