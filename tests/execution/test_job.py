"""What every job of the workflow does around its work: the log, what is tried again, the device, memory."""

from types import SimpleNamespace

import pytest

from fishertail.errors import DatasetError, DiskError, NodeError, StorageError, WorkerError
from fishertail.execution import job as jobs


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
        (DiskError("norms.parquet: cannot write: No space left on device"), True),
        (StorageError("norms.parquet: not a file that fishertail wrote; delete it"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(snakemake, tmp_path, monkeypatch, error, again):
    mark = tmp_path / "final"
    monkeypatch.setenv("SNAKEMAKE_QUEUE_FINAL", str(mark))
    fail(snakemake(), error)
    assert mark.exists() != again


def test_a_clusters_job_that_asked_for_a_gpu_never_takes_the_cpu(snakemake, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("fishertail.execution.workers.prepare_process", lambda threads: None)
    this = snakemake(gpus=1, device="auto")
    with jobs.job(this, torch=True) as job:
        assert job.device == "cpu"
    monkeypatch.setenv("SLURM_JOB_ID", "12")  # of an interactive allocation, in which nobody asked for a GPU
    with jobs.job(this, torch=True) as job:
        assert job.device == "cpu"
    monkeypatch.setenv("SNAKEMAKE_QUEUE_FINAL", "mark")
    with pytest.raises(SystemExit), jobs.job(this, torch=True):
        pass
    assert "asked the cluster for a GPU: a device that torch finds here (cpu) expected, found 'cuda'" in text(this)
    with jobs.job(snakemake(gpus=1, device="cpu"), torch=True) as job:  # as the user wants it
        assert job.device == "cpu"


def test_a_job_that_sees_all_gpus_of_its_node_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PBS_JOBID", "12.server")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    jobs._warn_of_shared_gpus()
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    jobs._warn_of_shared_gpus()
    assert "CUDA_VISIBLE_DEVICES is not set, so this job sees every GPU of its node" in capsys.readouterr().out


def test_a_job_of_a_scheduler_takes_no_more_memory_than_it_asked_for(snakemake, monkeypatch):
    monkeypatch.setenv("JOB_ID", "12")
    with jobs.job(snakemake(mem_mb=4000)) as this:
        assert this.memory_budget == 2e9
    with jobs.job(snakemake(mem_mb=4000, memory_budget=1536)) as this:
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
