"""Weights after each epoch of a block, in one file."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from fishertail import storage
from fishertail.errors import StorageError

Weights = dict[str, torch.Tensor]  # a state_dict


def write(weights: Mapping[int, Weights], path: str, provenance: Mapping) -> None:
    """Write the weights of some epochs, as tensors named `epoch0003/fc1.weight`."""
    tensors = {f"{_prefix(epoch)}{name}": value for epoch, state in weights.items() for name, value in state.items()}
    storage.write_tensors(tensors, path, provenance)


def read(path: str, epochs: Iterable[int]) -> dict[int, Weights]:
    """The weights after each of `epochs`.

    Raises:
        StorageError: the file is broken, or an epoch is not in it.
    """
    epochs = list(epochs)
    tensors = storage.read_tensors(path) if epochs else {}
    weights = {
        epoch: {name.removeprefix(_prefix(epoch)): t for name, t in tensors.items() if name.startswith(_prefix(epoch))}
        for epoch in epochs
    }
    for epoch, state in weights.items():
        if not state:
            raise StorageError(f"{path}: no weights of epoch {epoch}; delete it to have it made anew")
    return weights


def of_epoch(epoch: int, blocks: Sequence[Sequence[int]], paths: Sequence[str]) -> str:
    """The one of `paths`, a file a block, whose block (a list of epochs) holds `epoch`."""
    return next(path for epochs, path in zip(blocks, paths, strict=True) if epoch in epochs)


def _prefix(epoch: int) -> str:
    return f"epoch{epoch:04d}/"
