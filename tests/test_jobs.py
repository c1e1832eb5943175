"""What every job of the workflow does around its work: the log, second attempts, scratch folders, memory."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fishertail import jobs
from fishertail.errors import DatasetError, NodeError, WorkerError


class Resources(dict):
    __getattr__ = dict.__getitem__


@pytest.fixture
def snakemake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(**resources):
        return SimpleNamespace(
            log=[str(tmp_path / "job.log")], rule="test", params={}, threads=1, resources=Resources(resources)
        )

    return make


def text(snakemake) -> str:
    with open(snakemake.log[0]) as file:
        return file.read()


def fail(snakemake, error: Exception) -> str:
    """What a job that raises `error` prints to stderr at its end."""
    with pytest.raises(SystemExit) as ending, jobs.job(snakemake):
        raise error
    return str(ending.value)


def test_the_log_says_where_and_how_long(snakemake, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    this = snakemake(attempt=1)
    with jobs.job(this):
        print("working")
    first, middle, last = text(this).splitlines()
    assert first.startswith("job 4711, attempt 1, on ")
    assert middle == "working"
    assert "s, peak memory" in last


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DatasetError("digits.npz: 10 classes expected, found 9"), False),
        (ValueError("a bug"), False),
        (OSError("stale file handle"), True),
        (MemoryError(), True),
        (NodeError("machine.device: a device that torch finds here (cpu) expected, found 'cuda'"), True),
        (WorkerError("worker 1 of 4 died"), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
    ],
)
def test_only_what_may_pass_is_tried_again(snakemake, monkeypatch, error, again):
    monkeypatch.setenv(jobs.RUN_VARIABLE, "run1")
    fail(snakemake(attempt=1), error)
    ran = []
    second = snakemake(attempt=2)
    Path(second.log[0]).unlink()  # as Snakemake does before a second attempt
    if again:
        with jobs.job(second):
            ran.append(True)
        assert ran == [True]
    else:
        with pytest.raises(SystemExit, match="not tried again"), jobs.job(second):
            ran.append(True)
        assert ran == []
        assert "digits.npz" in text(second) or "a bug" in text(second)  # what the first attempt said


def test_a_fault_of_an_earlier_run_does_not_count(snakemake, monkeypatch):
    monkeypatch.setenv(jobs.RUN_VARIABLE, "run1")
    fail(snakemake(attempt=1), ValueError("mended since"))
    monkeypatch.setenv(jobs.RUN_VARIABLE, "run2")
    with jobs.job(snakemake(attempt=2)):
        pass


def test_scratch(snakemake, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("LOCAL_DISK", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/tmp")
    with jobs.job(snakemake(scratch="$LOCAL_DISK")):
        assert tempfile.gettempdir() == str(tmp_path)
    this = snakemake(scratch="$NOT_SET/here")
    fail(this, ValueError("not reached"))
    assert "machine.scratch: a folder on " in text(this)


def test_a_job_of_a_scheduler_takes_no_more_memory_than_it_asked_for(snakemake, monkeypatch):
    monkeypatch.setenv("JOB_ID", "12")
    with jobs.job(snakemake(mem_mb=4000)) as this:
        assert this.memory_budget == 2e9
    with jobs.job(snakemake(mem_mb=4000, memory_budget=1.5)) as this:
        assert this.memory_budget == 1.5 * 2**30
    monkeypatch.delenv("JOB_ID")
    with jobs.job(snakemake(mem_mb=4000)) as this:
        assert this.memory_budget is None


@pytest.mark.parametrize(
    ("device", "fault"),
    [
        (
            "tpu",
            "machine.device: auto, or a device that this torch knows (cpu, cuda, cuda:1, xpu, ...), expected; found",
        ),
        ("hpu", "machine.device: a device that torch finds here (cpu"),
        ("cuda:99", "machine.device: a device that torch finds here (cpu"),
        ("meta", "machine.device: a device that torch finds here (cpu"),
    ],
)
def test_a_device_is_checked_before_the_work(snakemake, device, fault):
    ran = []
    this = snakemake(device=device)
    with pytest.raises(SystemExit), jobs.job(this, torch=True):
        ran.append(True)
    assert ran == []
    said = [line for line in text(this).splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert said[0].startswith(f"error: {fault}")
    assert said[0].endswith(f"found '{device}'")


def test_the_cpu_is_there(snakemake):
    with jobs.job(snakemake(device="cpu"), torch=True) as this:
        assert this.device == "cpu"
