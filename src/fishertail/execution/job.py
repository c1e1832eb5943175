"""What every job of the workflow needs: threads, a device, a log, and errors that a user can read."""

import os
import platform
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fishertail.errors import DiskError, FishertailError, NodeError, WorkerError
from fishertail.results import of_run, provenance


@dataclass(frozen=True)
class Job:
    """What a rule's script works with, taken from Snakemake's object."""

    rule: str
    parameters: dict[str, Any]
    threads: int
    device: str
    memory_budget: float | None  # bytes; None: half of what is free
    gpus: int  # that the job may use
    cpu_workers: int  # processes where it uses none

    def budget_of_a_worker(self) -> float | None:
        """Bytes for the gradients of one process; CPU workers share the memory, each GPU has its own."""
        if self.device != "cpu" or self.cpu_workers == 1:
            return self.memory_budget
        from fishertail.gradients.memory_budget import resolved_budget

        return resolved_budget(self.memory_budget, "cpu") / self.cpu_workers

    def spread(self, function: Callable[..., Any], weights: Mapping[int, Any]) -> list[Any]:
        """The results of `function` for shares of the checkpoints: one for each GPU, or for each CPU worker."""
        from fishertail.execution import workers

        gpus = workers.visible_gpus()[: self.gpus] if self.device == "cuda" else []
        cpu_workers = self.cpu_workers if self.device == "cpu" else 1  # cuda:1 names one
        count = len(gpus) if self.device == "cuda" else cpu_workers
        return workers.spread(function, weights, workers=count, gpus=gpus, threads=max(1, self.threads // count))

    def provenance(
        self, data: Iterable[str], *, run: Mapping[str, Any] | None = None, machine: bool = False
    ) -> dict[str, Any]:
        """The record for the files that this job writes.

        Args:
            data: content hashes of the data sets.
            run: the run that the files belong to.
            machine: whether to record the machine: for files whose bits depend on it.
        """
        record = provenance.machine(self.device, self.threads) if machine else None
        named = {} if run is None else of_run.identity(run)
        return provenance.provenance(self.rule, self.parameters, data, record) | named


@contextmanager
def job(snakemake: Any, *, torch: bool = False) -> Iterator[Job]:
    """Run a rule's script: send its output to its log, and report an error that the user can fix in one line.

    An error that would recur is reported to the cluster's executor, which then does not retry the job.

    Args:
        snakemake: the object that Snakemake gives to a script.
        torch: set torch's threads and choose a device, which imports torch.
    """
    path, resources = snakemake.log[0], snakemake.resources
    with open(path, "w", encoding="utf-8", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            with _described(resources.get("attempt", 1)) as facts:
                device = _prepare_torch(snakemake) if torch else "cpu"
                if device != "cpu":
                    facts.append(f"GPUs: {_gpu_names(device)}")
                    _warn_of_shared_gpus()
                yield Job(
                    rule=snakemake.rule,
                    parameters=dict(snakemake.params.items()),
                    threads=snakemake.threads,
                    device=device,
                    memory_budget=_memory_budget(resources, device),
                    gpus=resources.get("gpus", 1),
                    cpu_workers=resources.get("cpu_workers", 1),
                )
        except FishertailError as error:
            print(f"error: {error}")
            _end(error)
        except Exception as error:
            traceback.print_exc()
            _end(error)


_FINAL_VARIABLE = "SNAKEMAKE_QUEUE_FINAL"  # of jobs of our executor: the file that one creates if it would fail again
_JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID")  # in the environment of a scheduler's job


def scheduler_job() -> str | None:
    """The scheduler's id of the job that this process belongs to."""
    return next((os.environ[name] for name in _JOB_IDS if name in os.environ), None)


def _end(error: Exception) -> NoReturn:
    if (mark := os.environ.get(_FINAL_VARIABLE)) and not _may_be_cured(error):
        Path(mark).touch()
    sys.exit(1)


# what torch says in a plain RuntimeError
_OF_THE_NODE = re.compile(r"CUDA error|cuDNN error|CUBLAS_STATUS|can't allocate memory|not enough memory", re.I)


def _may_be_cured(error: Exception) -> bool:
    """Whether a second attempt may succeed: after a fault of a node or its disks, or for lack of memory."""
    if isinstance(error, OSError | MemoryError | WorkerError | NodeError | DiskError):
        return True
    return type(error).__name__ in ("AcceleratorError", "OutOfMemoryError") or bool(_OF_THE_NODE.search(str(error)))


@contextmanager
def _described(attempt: int) -> Iterator[list[str]]:
    """Print where the job runs; at its end its time, its peak memory, and what was added to the list."""
    started = time.monotonic()
    facts: list[str] = []
    job_id = scheduler_job()
    print(f"{f'job {job_id}, ' if job_id else ''}attempt {attempt}, on {platform.node()}, process {os.getpid()}")
    try:
        yield facts
    finally:
        own, workers = (resource.getrusage(of).ru_maxrss for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        facts.append(f"{time.monotonic() - started:.1f} s, peak memory {max(own, workers) / 2**20:.2f} GiB")
        print("\n".join(facts))


def export(source: Path) -> None:
    """Set the environment variables that jobs need.

    Args:
        source: the folder of this package, for jobs in conda environments or containers, which do not have it.
    """
    os.environ.setdefault("TQDM_MININTERVAL", "20")  # seconds between the progress notes of a log
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(source), *others])


def _warn_of_shared_gpus() -> None:
    """Warn where PBS assigns GPUs by number only, as it does without its cgroup hook."""
    if scheduler_job() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        print("warning: CUDA_VISIBLE_DEVICES is not set, so this job sees every GPU of its node (docs/clusters.md)")


def _gpu_names(device: str) -> str:
    from fishertail import devices

    return ", ".join(devices.names(device)) or device


def _memory_budget(resources: Any, device: str) -> float | None:
    """In bytes, from MiB; None for half of what is free.

    A job of a scheduler must not take what other jobs on its node use.
    """
    budget = resources.get("memory_budget", "auto")
    if budget != "auto":
        return float(budget) * 2**20
    if device == "cpu" and scheduler_job() and isinstance(resources.get("mem_mb"), int):
        return float(resources.mem_mb) * 1e6 / 2
    return None


def _prepare_torch(snakemake: Any) -> str:
    from fishertail import devices
    from fishertail.execution import workers

    workers.prepare_process(snakemake.threads)
    wanted, key = snakemake.resources.get("device", devices.AUTO), "machine.device"
    if wanted == devices.AUTO and _FINAL_VARIABLE in os.environ and snakemake.resources.get("gpus", 0):
        wanted, key = "cuda", f"{key} is auto, and the job asked the cluster for a GPU"  # which is paid for
    if wanted == devices.AUTO:
        return devices.automatic()
    devices.check(wanted, key)
    return str(wanted)
