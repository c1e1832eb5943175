"""What every job of the workflow needs: threads, a device, a log, and errors that a user can read."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

from fishertail import provenance
from fishertail.errors import FishertailError


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
        from fishertail.row_store import default_budget

        budget = self.memory_budget
        if self.device == "cpu" and self.cpu_workers > 1:  # which share the memory; GPUs have each their own
            budget = (default_budget("cpu") if budget is None else budget) / self.cpu_workers
        wanted = {"layers": self.parameters["layers"], "k": self.parameters["eigenpairs"]}
        return wanted | {
            "rtol": self.parameters["tolerance"],
            "device": self.device,
            "memory_budget": budget,
        }

    def spread(self, function: Callable, weights: Mapping) -> list:
        """The results of `function` for shares of the epochs of `weights`: one a GPU, or one a CPU worker."""
        from fishertail import parallel

        if self.device == "cuda":
            gpus = parallel.visible_gpus()[: self.gpus]
            return parallel.spread(function, weights, workers=len(gpus), gpus=gpus, threads=self.threads)
        workers = self.cpu_workers if self.device == "cpu" else 1  # cuda:1 names one
        return parallel.spread(function, weights, workers=workers, threads=max(1, self.threads // workers))

    def provenance(self, data: Iterable[str], *, machine: bool = False) -> dict:
        """The record for the files that this job writes; `machine` where their bits depend on it."""
        record = provenance.machine(self.device, self.threads) if machine else None
        return provenance.provenance(self.rule, self.parameters, data, record)


@contextmanager
def job(snakemake, *, torch: bool = False) -> Iterator[Job]:
    """Run a rule's script: send what it prints to its log, and end it with one line where the user can mend the fault.

    Args:
        snakemake: the object that Snakemake gives to a script.
        torch: set torch's threads and choose a device, which imports torch.
    """
    with open(snakemake.log[0], "w", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            device = _prepare_torch(snakemake) if torch else "cpu"
            budget = snakemake.resources.get("memory_budget", "auto")
            yield Job(
                rule=snakemake.rule,
                parameters=dict(snakemake.params.items()),
                threads=snakemake.threads,
                device=device,
                memory_budget=None if budget == "auto" else float(budget) * 2**30,
                gpus=snakemake.resources.get("gpus", 1),
                cpu_workers=snakemake.resources.get("cpu_workers", 1),
            )
        except FishertailError as error:
            print(f"error: {error}")
            sys.exit(1)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def _prepare_torch(snakemake) -> str:
    import torch

    from fishertail import parallel

    parallel.prepare_process(snakemake.threads)
    wanted = snakemake.resources.get("device", "auto")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise FishertailError(f"machine.device: {wanted} asked for, but torch finds no GPU on this machine")
    return wanted
