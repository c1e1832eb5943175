"""Weights after SGD steps of a block of epochs, in one file."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fishertail.errors import StorageError
from fishertail.results import storage

Weights = dict[str, torch.Tensor]  # a state_dict
FILE = "checkpoints.safetensors"


def write(weights: Mapping[int, Weights], path: str, provenance: Mapping[str, Any]) -> None:
    """Write the weights after some SGD steps, as tensors named `step00003750/fc1.weight`."""
    tensors = {f"{prefix(step)}{name}": value for step, state in weights.items() for name, value in state.items()}
    storage.write_tensors(tensors, path, provenance)


def read(path: str, steps: Iterable[int]) -> dict[int, Weights]:
    """The weights after each of `steps`.

    Raises:
        StorageError: the file is broken, or has no weights of one of these steps.
    """
    steps = list(steps)
    tensors = storage.read_tensors(path) if steps else {}
    weights = {
        step: {name.removeprefix(prefix(step)): t for name, t in tensors.items() if name.startswith(prefix(step))}
        for step in steps
    }
    for step, state in weights.items():
        if not state:
            raise StorageError(f"{path}: no weights of step {step}; delete the file to have it computed again")
    return weights


def read_last(path: str) -> tuple[int, Weights]:
    """The last step of a file, and the weights after it."""
    names = storage.read_tensors(path)
    last = max(int(name.split("/")[0].removeprefix("step")) for name in names)
    return last, {name.removeprefix(prefix(last)): t for name, t in names.items() if name.startswith(prefix(last))}


def prefix(step: int) -> str:
    """The prefix of the names of all tensors of a step."""
    return f"step{step:08d}/"
