"""One way to batches of samples from tensors, arrays, mappings and tuples of these, a Dataset or a DataLoader."""

import warnings
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

_REREAD = 8  # samples that are read twice


class Samples(Protocol):
    """N samples that are read in batches."""

    def __len__(self) -> int: ...

    def read(self, index: torch.Tensor) -> tuple[Any, Any]:
        """Inputs and targets of the samples at `index` (ascending): tensors, or mappings or tuples of them."""


def samples_of(inputs: Any, targets: Any = None) -> Samples:
    """The samples in any of the forms that users have them in.

    Args:
        inputs: tensors or arrays (N, ...), alone, in a mapping (the model's keyword arguments) or in a tuple (its
            positional arguments); or a list of N samples; or a Dataset or DataLoader of pairs of input and target, or
            of mappings with an entry `labels`. A DataLoader's dataset is read in the order of its indices, with its
            collate_fn; of a SubsetRandomSampler, its indices are read in their order.
        targets: (N, ...) in the same forms; None for a Dataset or DataLoader.

    Raises:
        ValueError: the lengths differ, there are no samples, the dataset is iterable, or one of a few
            samples differs when it is read twice.
        TypeError: the data are of another kind.
    """
    if isinstance(inputs, DataLoader):
        return _DatasetSamples(_drawn_from(inputs), inputs.collate_fn or default_collate, targets)
    if isinstance(inputs, Dataset):
        return _DatasetSamples(inputs, default_collate, targets)
    if isinstance(targets, Dataset | DataLoader):
        raise TypeError(f"labels: a tensor or an array expected, found {type(targets).__name__}; pass it as images")
    if targets is None:
        raise TypeError(
            "labels expected; only a Dataset or a DataLoader of torch stands for images and labels, found "
            f"{type(inputs).__name__}: give DataLoader(samples) for whatever else has pairs and a length"
        )
    return _TensorSamples(_arrays(inputs, "images"), _arrays(targets, "labels"))


class _TensorSamples:
    """Samples in tensors or arrays."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        lengths = [{len(leaf) for leaf in tree_flatten(part)[0]} for part in (inputs, targets)]
        for kind, found in zip(("images", "labels"), lengths, strict=True):
            if len(found) != 1:
                raise ValueError(f"{kind}: parts of one length expected, found {', '.join(map(str, sorted(found)))}")
        (images,), (labels,) = lengths
        if images != labels:
            raise ValueError(f"as many labels as images expected, found {images} images and {labels} labels")
        if images == 0:
            raise ValueError("at least one sample expected, found none")
        self._inputs, self.targets, self._length = inputs, targets, images

    def __len__(self) -> int:
        return self._length

    def read(self, index: torch.Tensor) -> tuple[Any, Any]:
        inputs, targets = (tree_map(lambda leaf: _taken(leaf, index), part) for part in (self._inputs, self.targets))
        return inputs, targets


class _DatasetSamples:
    """Samples of a dataset, collated into batches."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], targets: Any) -> None:
        if targets is not None:
            raise TypeError("labels: none expected beside a Dataset or DataLoader, which has its own")
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise ValueError(
                f"{type(dataset).__name__}: a dataset with a length and an order expected, since every sample is read "
                "several times; an iterable one has neither"
            )
        self._dataset, self._collate, self._length = dataset, collate, len(dataset)
        if self._length == 0:
            raise ValueError("at least one sample expected, found none")
        for place in sorted({(self._length - 1) * part // (_REREAD - 1) for part in range(_REREAD)}):
            first, again = (tree_flatten(self.read(torch.tensor([place])))[0] for _ in range(2))
            if not all(_same(*pair) for pair in zip(first, again, strict=True)):
                raise ValueError(
                    f"{type(dataset).__name__}: sample {place} differs when it is read again (random augmentation?); "
                    "every sample must be the same each time"
                )

    def __len__(self) -> int:
        return self._length

    def read(self, index: torch.Tensor) -> tuple[Any, Any]:
        batch = self._collate([self._dataset[i] for i in index.tolist()])
        if isinstance(batch, Mapping):
            name = next((name for name in ("labels", "label") if name in batch), None)
            if name is None:
                raise ValueError(f"samples: an entry `labels` expected, found {', '.join(map(str, batch))}")
            return {key: value for key, value in batch.items() if key != name}, batch[name]
        if not isinstance(batch, Sequence) or len(batch) != 2:
            found = type(batch).__name__ + (f" of {len(batch)}" if isinstance(batch, Sequence) else "")
            raise ValueError(
                f"samples: pairs of input and label expected, found {found}; a collate_fn of a DataLoader may make "
                "pairs, with several inputs in a tuple"
            )
        inputs, targets = batch
        return tuple(inputs) if isinstance(inputs, list) else inputs, targets


_OF_ALL = (SequentialSampler, RandomSampler, DistributedSampler)  # samplers that draw each sample once, over all ranks


def _drawn_from(loader: DataLoader[Any]) -> Dataset[Any]:
    """The samples that a DataLoader draws, each once; what another sampler draws is not known beforehand."""
    sampler: Any = getattr(loader.batch_sampler, "sampler", None) or loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, [int(place) for place in sampler.indices])
    if not isinstance(sampler, _OF_ALL) and not isinstance(loader.dataset, IterableDataset):
        warnings.warn(
            f"every sample of the dataset is measured once, whatever {type(sampler).__name__} draws; give a Subset of "
            "the dataset if it leaves some out",
            stacklevel=5,
        )
    return loader.dataset


class RepeatedSamples:
    """Each sample several times in a row, with the number of the repetition as its target."""

    def __init__(self, samples: Samples, times: int) -> None:
        self._samples, self._times = samples, times

    def __len__(self) -> int:
        return len(self._samples) * self._times

    def read(self, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """See `Samples`."""
        samples, place = torch.unique(index // self._times, return_inverse=True)
        inputs, _ = self._samples.read(samples)
        return tree_map_only(torch.Tensor, lambda t: t[place.to(t.device)], inputs), index % self._times


def moved(tree: Any, device: torch.device) -> Any:
    """Tensors on a device, as copies that autograd takes where they were made in inference mode."""
    return tree_map_only(torch.Tensor, lambda t: t.clone() if t.is_inference() else t, _to(tree, device))


def _same(first: Any, again: Any) -> bool:
    """Whether two readings of a part of a sample agree; what is no tensor does not count."""
    if not isinstance(first, torch.Tensor):
        return True
    return first.shape == again.shape and bool(((first == again) | ((first != first) & (again != again))).all())


def _to(tree: Any, device: torch.device) -> Any:
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), tree)


def _taken(leaf: torch.Tensor | NDArray[Any], index: torch.Tensor) -> torch.Tensor:
    """The samples at `index` (ascending); consecutive ones of a tensor without a copy."""
    first, last = int(index[0]), int(index[-1])
    part = slice(first, last + 1) if last - first == len(index) - 1 else index
    if isinstance(leaf, torch.Tensor):
        return leaf[part if isinstance(part, slice) else part.to(leaf.device)]
    return torch.from_numpy(np.array(leaf[part if isinstance(part, slice) else part.numpy()]))


def _arrays(tree: Any, kind: str) -> Any:
    """Tensors and arrays as they are (memory-mapped ones are not read here), lists of samples stacked."""
    if isinstance(tree, Mapping):
        if not tree:
            raise ValueError(f"{kind}: at least one tensor expected, found an empty mapping")
        return {name: _arrays(part, kind) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_arrays(part, kind) for part in tree)
    if isinstance(tree, list):
        return default_collate(tree)
    if isinstance(tree, torch.Tensor | np.ndarray) and tree.ndim:
        return tree
    if hasattr(tree, "__array__"):
        return np.asarray(tree)
    raise TypeError(f"{kind}: a tensor or an array with a row for each sample expected, found {type(tree).__name__}")
