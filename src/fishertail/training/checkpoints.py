"""Weights after SGD steps of a block of epochs, in one file."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fishertail.errors import StorageError
from fishertail.results import storage
from fishertail.results.schema import Table

Weights = dict[str, torch.Tensor]  # a state_dict
TABLE = Table("checkpoints", "safetensors", "weights after SGD steps", columns=(), kept=False)
FILE = TABLE.file


def write(weights: Mapping[int, Weights], path: str, provenance: Mapping[str, Any]) -> None:
    """Write the weights after some SGD steps; see `named`."""
    storage.write_tensors(named(weights), path, provenance)


def read(path: str, steps: Iterable[int]) -> dict[int, Weights]:
    """The weights after each of `steps`.

    Raises:
        StorageError: the file is broken, or has no weights of one of these steps.
    """
    steps = list(steps)
    tensors = storage.read_tensors(path) if steps else {}
    weights = {step: of_step(tensors, step) for step in steps}
    for step, state in weights.items():
        if not state:
            raise StorageError(f"{path}: no weights of step {step}; delete the file to have it computed again")
    return weights


def read_last(path: str) -> tuple[int, Weights]:
    """The last step of a file, and the weights after it."""
    tensors = storage.read_tensors(path)
    last = max(int(name.split("/")[0].removeprefix("step")) for name in tensors)
    return last, of_step(tensors, last)


def named(weights: Mapping[int, Weights]) -> dict[str, torch.Tensor]:
    """The weights after some SGD steps as tensors named `step00003750/fc1.weight`."""
    return {f"{prefix(step)}{name}": value for step, state in weights.items() for name, value in state.items()}


def of_step(tensors: Mapping[str, torch.Tensor], step: int) -> Weights:
    """The weights of a step among tensors that `named` gave."""
    start = prefix(step)
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def prefix(step: int) -> str:
    """The prefix of the names of all tensors of a step."""
    return f"step{step:08d}/"
