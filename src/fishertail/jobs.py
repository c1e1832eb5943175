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
from typing import NoReturn

from fishertail import provenance
from fishertail.errors import FishertailError, NodeError, WorkerError


@dataclass(frozen=True)
class Job:
    """What a rule's script is given, made of Snakemake's object."""

    rule: str
    parameters: dict
    threads: int
    device: str
    memory_budget: float | None  # bytes; None: half of what is free
    gpus: int  # that the job may use
    cpu_workers: int  # processes where it uses none

    def solver_options(self) -> dict:
        """What `analysis.spectra` takes from the rule's parameters and the machine."""
        from fishertail.gradients.memory_budget import resolved_budget

        budget = self.memory_budget
        if self.device == "cpu" and self.cpu_workers > 1:  # which share the memory; GPUs have each their own
            budget = resolved_budget(budget, "cpu") / self.cpu_workers
        wanted = {"layers": self.parameters["layers"], "k": self.parameters["eigenpairs"]}
        return wanted | {
            "rtol": self.parameters["tolerance"],
            "device": self.device,
            "memory_budget": budget,
        }

    def spread(self, function: Callable, weights: Mapping) -> list:
        """The results of `function` for shares of the epochs of `weights`: one a GPU, or one a CPU worker."""
        from fishertail import parallel

        gpus = parallel.visible_gpus()[: self.gpus] if self.device == "cuda" else None
        cpu_workers = self.cpu_workers if self.device == "cpu" else 1  # cuda:1 names one
        workers = cpu_workers if gpus is None else len(gpus)
        return parallel.spread(function, weights, workers=workers, gpus=gpus, threads=max(1, self.threads // workers))

    def provenance(self, data: Iterable[str], *, machine: bool = False) -> dict:
        """The record for the files that this job writes; `machine` where their bits depend on it."""
        record = provenance.machine(self.device, self.threads) if machine else None
        return provenance.provenance(self.rule, self.parameters, data, record)


@contextmanager
def job(snakemake, *, torch: bool = False) -> Iterator[Job]:
    """Run a rule's script: send what it prints to its log, and end it with one line where the user can mend the fault.

    A fault of the job itself would come again, which the cluster's executor is told: it does not try it again.

    Args:
        snakemake: the object that Snakemake gives to a script.
        torch: set torch's threads and choose a device, which imports torch.
    """
    path, resources = snakemake.log[0], snakemake.resources
    with open(path, "w", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            with _described(resources.get("attempt", 1)) as facts:
                device = _prepare_torch(snakemake) if torch else "cpu"
                if device != "cpu":
                    facts.append(f"GPUs: {_gpu_names(device)}")
                    _tell_of_shared_gpus()
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


_FINAL_VARIABLE = "SNAKEMAKE_QUEUE_FINAL"  # the file by which a job tells the executor that it would fail again
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
    """Whether a second attempt may do better: after a fault of a node or its disks, or for lack of memory."""
    if isinstance(error, OSError | MemoryError | WorkerError | NodeError):
        return True
    return type(error).__name__ in ("AcceleratorError", "OutOfMemoryError") or bool(_OF_THE_NODE.search(str(error)))


@contextmanager
def _described(attempt: int) -> Iterator[list[str]]:
    """Print where the job runs; and at its end how long it took, how much memory, and what was added to the list."""
    started, facts = time.monotonic(), []
    job_id = scheduler_job()
    print(f"{f'job {job_id}, ' if job_id else ''}attempt {attempt}, on {platform.node()}, process {os.getpid()}")
    try:
        yield facts
    finally:
        own, workers = (resource.getrusage(of).ru_maxrss for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        facts.append(f"{time.monotonic() - started:.1f} s, peak memory {max(own, workers) / 2**20:.2f} GiB")
        print("\n".join(facts))


def export(source: Path) -> None:
    """Give jobs what they are told by the environment.

    Args:
        source: the folder of this package, for jobs in an environment of conda or a container, which do not have it.
    """
    os.environ.setdefault("TQDM_MININTERVAL", "20")  # seconds between the progress notes of a log
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(source), *others])


def _tell_of_shared_gpus() -> None:
    """Of PBS without its cgroup hook, which hands out GPUs by number only."""
    if scheduler_job() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        print(
            "warning: CUDA_VISIBLE_DEVICES is not set, so that this job sees every GPU of its node (docs/clusters.md)"
        )


def _gpu_names(device: str) -> str:
    from fishertail import devices

    return ", ".join(devices.names(device)) or device


def _memory_budget(resources, device: str) -> float | None:
    """In bytes; None for half of what is free. A job of a scheduler must not take what other jobs on its node use."""
    budget = resources.get("memory_budget", "auto")
    if budget != "auto":
        return float(budget) * 2**30
    if device == "cpu" and scheduler_job() and isinstance(resources.get("mem_mb"), int):
        return resources.mem_mb * 1e6 / 2
    return None


def _prepare_torch(snakemake) -> str:
    from fishertail import devices, parallel

    parallel.prepare_process(snakemake.threads)
    wanted, key = snakemake.resources.get("device", devices.AUTO), "machine.device"
    if wanted == devices.AUTO and scheduler_job() and snakemake.resources.get("gpus", 0):
        wanted, key = "cuda", f"{key} is auto, and the job asked the cluster for a GPU"  # which is paid for
    if wanted == devices.AUTO:
        return devices.automatic()
    devices.check(wanted, key)
    return wanted
