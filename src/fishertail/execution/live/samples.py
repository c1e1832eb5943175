"""The training samples that a `Watch` measures: all of them, or a random subset that is drawn once."""

import hashlib
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_flatten, tree_map

from fishertail.gradients.inputs import samples_of
from fishertail.results.schema import SAMPLE, Table

POSITIONS = Table(
    name="subset",
    suffix="csv",
    meaning="the random subset of the training samples that is measured",
    columns=(SAMPLE,),
    keys=("sample",),
)
_ROWS = 4096  # hashed at a time


@dataclass(frozen=True)
class WatchedSamples:
    """n samples in memory.

    Attributes:
        inputs: (n, ...) tensors, or mappings or tuples of them.
        targets: (n, ...) likewise.
        positions: (n,) int64 in the data set, ascending.
        of: N, the number of samples of the data set.
        seed: with which the subset was drawn; None if it is the whole data set.
        content: a hash of all that is measured.
    """

    inputs: Any
    targets: Any
    positions: NDArray[np.int64]
    of: int
    seed: int | None
    content: str

    def on(self, device: torch.device) -> tuple[Any, Any]:
        """Inputs and targets on a device."""
        inputs, targets = (tree_map(lambda each: each.to(device), part) for part in (self.inputs, self.targets))
        return inputs, targets

    def in_the_data_set(self, table: Any) -> Any:
        """A table with its samples' positions in the data set, instead of those among the measured."""
        if self.seed is None or not isinstance(table, pd.DataFrame) or "sample" not in table:
            return table
        return table.assign(sample=self.positions[table["sample"].to_numpy(dtype=np.int64)].astype(np.int32))

    @property
    def described(self) -> dict[str, int | None]:
        """What every file says of the samples."""
        return {"number": len(self.positions), "of": self.of, "subset_seed": self.seed}


def watched_samples(
    images: Any, labels: Any, subset: int | None, seed: int, kept: NDArray[np.int64] | None = None
) -> WatchedSamples:
    """The samples to measure, read once, and of a subset only these.

    Args:
        images, labels: see `gradient_norms`.
        subset: how many to draw at random; None, or N and more, for all.
        kept: the positions that were drawn before.

    Raises:
        ValueError, TypeError: see `gradient_norms`; ValueError also if `subset` is less than 1.
    """
    subset, seed = None if subset is None else operator.index(subset), operator.index(seed)
    if subset is not None and subset < 1:
        raise ValueError(f"subset: 1 or more expected, found {subset}")
    samples = samples_of(images, labels)
    number, drawn = len(samples), subset is not None and subset < len(samples)
    if not drawn:
        positions = np.arange(number)
    elif kept is not None and len(kept) == subset and kept.max() < number:
        positions = kept
    else:
        positions = np.sort(np.random.default_rng(seed).choice(number, subset, replace=False))
    inputs, targets = samples.read(torch.from_numpy(positions))
    return WatchedSamples(inputs, targets, positions, number, seed if drawn else None, _content((inputs, targets)))


def content_hash(images: Any, labels: Any) -> str:
    """A hash of samples, see `gradient_norms`, of which some are in memory at a time."""
    samples, digest = samples_of(images, labels), hashlib.sha256()
    for index in torch.arange(len(samples)).split(_ROWS):
        digest.update(_content(samples.read(index)).encode())
    return digest.hexdigest()


def _content(tree: Any) -> str:
    """A hash of all tensors, some rows of them at a time."""
    digest = hashlib.sha256()
    for leaf in tree_flatten(tree)[0]:
        digest.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
        for rows in leaf.split(_ROWS):
            digest.update(rows.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
