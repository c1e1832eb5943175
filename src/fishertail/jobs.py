"""What every job of the workflow needs: threads, a device, a log, and errors that a user can read."""

import ctypes
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

from fishertail import provenance
from fishertail.errors import FishertailError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Job:
    """What a rule's script is given, made of Snakemake's object."""

    rule: str
    parameters: dict
    threads: int
    device: str
    memory_budget: float | None  # bytes; None: half of what is free

    def solver_options(self) -> dict:
        """What `analysis.spectra` takes from the rule's parameters and the machine."""
        wanted = {"layers": self.parameters["layers"], "k": self.parameters["eigenpairs"]}
        return wanted | {
            "rtol": self.parameters["tolerance"],
            "device": self.device,
            "memory_budget": self.memory_budget,
        }

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
            )
        except FishertailError as error:
            print(f"error: {error}")
            sys.exit(1)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def _prepare_torch(snakemake) -> str:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(snakemake.threads)
    threadpool_limits(snakemake.threads)  # scipy's
    _keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = False  # its products keep 10 bits; matrix products are float32 by default
    wanted = snakemake.resources.get("device", "auto")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise FishertailError(f"machine.device: {wanted} asked for, but torch finds no GPU on this machine")
    return wanted


def _keep_freed_memory() -> None:
    """Let malloc keep large buffers instead of returning them: page faults took a fifth of a pass."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):  # another C library
        pass
