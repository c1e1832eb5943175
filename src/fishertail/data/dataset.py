"""Image data sets by one interface: uint8 images, labels, number of classes, a content hash."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fishertail.data.source import SPLITS
from fishertail.errors import DatasetError
from fishertail.results import storage


@dataclass(frozen=True)
class Dataset:
    """A labelled image data set in memory. `test` is what the paper calls validation data."""

    name: str
    train_images: torch.Tensor  # (N, C, H, W) uint8
    train_labels: torch.Tensor  # (N,) int64
    test_images: torch.Tensor  # (M, C, H, W) uint8
    test_labels: torch.Tensor  # (M,) int64
    classes: int
    content_hash: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def training_data(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Training images (N, C, H, W) float32 in [0, 1], and labels (N,)."""
        return self.train_images.to(device).float().div_(255), self.train_labels.to(device)

    def validation_data(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Test images (M, C, H, W) float32 in [0, 1], and labels (M,)."""
        return self.test_images.to(device).float().div_(255), self.test_labels.to(device)


def write(dataset: Dataset, path: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write `dataset` as one safetensors file."""
    tensors = {
        f"{split}_{kind}": getattr(dataset, f"{split}_{kind}") for split in SPLITS for kind in ("images", "labels")
    }
    storage.write_tensors(tensors, path, {**provenance, "name": dataset.name, "classes": dataset.classes})


def read(path: str | Path) -> Dataset:
    """Read what `write` wrote; raises `StorageError` where the file is broken."""
    record = storage.read_provenance(path)
    tensors = storage.read_tensors(path)
    return Dataset(record["name"], **tensors, classes=record["classes"], content_hash=record["data"][0])


def checked(name: str, arrays: Mapping[str, np.ndarray], origin: str | Path) -> Dataset:
    """The data set in `arrays`: train_images, train_labels, test_images and test_labels.

    Raises:
        DatasetError: names the `origin` and the fault.
    """
    images, labels = {}, {}
    for split in SPLITS:
        images[split] = _checked_images(arrays[f"{split}_images"], f"{origin}: {split}_images")
        labels[split] = _checked_labels(arrays[f"{split}_labels"], f"{origin}: {split}_labels")
        if len(images[split]) != len(labels[split]):
            raise DatasetError(f"{origin}: {len(images[split])} {split} images but {len(labels[split])} {split} labels")
        if len(images[split]) == 0:
            raise DatasetError(f"{origin}: no {split} images")
    if images["train"].shape[1:] != images["test"].shape[1:]:
        shapes = [images[split].shape[1:] for split in SPLITS]
        raise DatasetError(f"{origin}: train and test images of one shape expected, found {shapes[0]} and {shapes[1]}")
    present = np.unique(labels["train"])
    classes = int(present[-1]) + 1
    if classes < 2 or len(present) < classes:
        raise DatasetError(
            f"{origin}: train_labels: every class from 0 on and at least two expected, found {present.tolist()[:20]}"
        )
    if labels["test"].max() >= classes:
        raise DatasetError(
            f"{origin}: test_labels: labels below {classes} (the training classes) expected, "
            f"found {labels['test'].max()}"
        )
    digest = hashlib.sha256()
    for split in SPLITS:
        for array in (images[split], labels[split]):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    tensors = {f"{split}_images": torch.from_numpy(np.ascontiguousarray(images[split])) for split in SPLITS}
    tensors |= {f"{split}_labels": torch.from_numpy(labels[split]) for split in SPLITS}
    return Dataset(name, **tensors, classes=classes, content_hash=digest.hexdigest())


def channels_are_last(shape: Sequence[int]) -> bool:
    """Whether images are (N, H, W, C), not (N, C, H, W): at most four channels, fewer than rows and columns."""
    return len(shape) == 4 and shape[1] not in (1, 3) and 0 < shape[3] <= 4 and shape[3] < min(shape[1:3])


def _checked_images(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype != np.uint8:
        raise DatasetError(f"{where}: dtype uint8 expected, found {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif channels_are_last(array.shape):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise DatasetError(f"{where}: shape (N, H, W), (N, C, H, W) or (N, H, W, C) expected, found {array.shape}")
    return array


def _checked_labels(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(f"{where}: one integer for each sample expected, found {array.dtype} of shape {array.shape}")
    if array.size and array.min() < 0:
        raise DatasetError(f"{where}: labels from 0 on expected, found {array.min()}")
    return array.astype(np.int64)
