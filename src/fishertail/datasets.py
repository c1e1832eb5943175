"""Image data sets by one interface: uint8 images, labels, number of classes, a content hash.

Built in are `digits` (scikit-learn's, needs no download), `mnist` and `cifar10` (by torchvision). Any other name is
`data_dir/NAME.npz` with train_images, train_labels, test_images, test_labels, or a tree
`data_dir/NAME/{train,test}/<class>/*.png`.
"""

import hashlib
import time
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fishertail import sources, storage
from fishertail.errors import DatasetError

SPLITS = ("train", "test")


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
        return tuple(self.train_images.shape[1:])

    def training_data(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Training images (N, C, H, W) float32 in [0, 1], and labels (N,)."""
        return self.train_images.to(device).float().div_(255), self.train_labels.to(device)

    def validation_data(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Test images (M, C, H, W) float32 in [0, 1], and labels (M,)."""
        return self.test_images.to(device).float().div_(255), self.test_labels.to(device)


def load(name: str, data_dir: str | Path = "data", *, attempts: int = 3) -> Dataset:
    """Load a data set from its source, downloading `mnist` and `cifar10` where they are missing.

    Raises:
        DatasetError: names the file and the fault, or the paths looked at and the URL tried.
    """
    data_dir = Path(data_dir)
    if sources.npz(name, data_dir).is_file():
        arrays, origin = _from_npz(sources.npz(name, data_dir)), sources.npz(name, data_dir)
    elif name == "digits":
        arrays, origin = _digits(), "scikit-learn's load_digits"
    elif name in sources.BUILT_IN:
        arrays, origin = _torchvision(name, data_dir, attempts), data_dir / name
    elif sources.folder(name, data_dir).is_dir():
        arrays, origin = _from_folder(sources.folder(name, data_dir)), sources.folder(name, data_dir)
    else:
        sources.training_samples(name, data_dir)  # raises the error that lists what was looked for
        raise DatasetError(f"{name}: no data set")
    return _checked(name, arrays, origin)


def write(dataset: Dataset, path: str | Path, provenance: dict) -> None:
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


def _checked(name: str, arrays: dict[str, np.ndarray], origin) -> Dataset:
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


def _checked_images(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype != np.uint8:
        raise DatasetError(f"{where}: dtype uint8 expected, found {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise DatasetError(f"{where}: shape (N, H, W), (N, C, H, W) or (N, H, W, C) expected, found {array.shape}")
    return array


def _checked_labels(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(f"{where}: one integer a sample expected, found {array.dtype} of shape {array.shape}")
    if array.size and array.min() < 0:
        raise DatasetError(f"{where}: labels from 0 on expected, found {array.min()}")
    return array.astype(np.int64)


def _digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    split = train_test_split(images, labels, train_size=sources.BUILT_IN["digits"], random_state=0, stratify=labels)
    return dict(zip(("train_images", "test_images", "train_labels", "test_labels"), split, strict=True))


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise DatasetError(f"{path}: arrays {', '.join(names)} expected, {', '.join(missing)} missing")
            return {name: file[name] for name in names}
    except DatasetError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds on truncated or foreign files
        raise DatasetError(f"{path}: not a readable npz file ({error})") from error


def _from_folder(root: Path) -> dict[str, np.ndarray]:
    from PIL import Image

    arrays, classes = {}, None
    for split in SPLITS:
        directory = root / split
        found = sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
        if not found:
            raise DatasetError(f"{directory}: one folder a class expected, found none")
        classes = classes or found
        if not set(found) <= set(classes):
            raise DatasetError(f"{directory}: classes {sorted(set(found) - set(classes))} are not among those of train")
        paths = [path for name in found for path in sorted((directory / name).iterdir()) if path.is_file()]
        images = []
        for path in paths:
            try:
                with Image.open(path) as image:
                    images.append(np.asarray(image if image.mode == "L" else image.convert("RGB")))
            except Exception as error:
                raise DatasetError(f"{path}: not a readable image ({error})") from error
            if images[-1].shape != images[0].shape:
                raise DatasetError(
                    f"{path}: shape {images[0].shape} as in {paths[0]} expected, found {images[-1].shape}"
                )
        arrays[f"{split}_images"] = np.stack(images) if images else np.empty((0, 1, 1), np.uint8)
        arrays[f"{split}_labels"] = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    return arrays


def _torchvision(name: str, data_dir: Path, attempts: int) -> dict[str, np.ndarray]:
    _declare_torchvision_operators()
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[name]
    if name == "mnist":
        where, url = data_dir / "MNIST" / "raw", kind.mirrors[-1]
        files = [file.removesuffix(".gz") for file, _ in kind.resources]
    else:
        where, url = data_dir / "cifar-10-batches-py", kind.url
        files = [file for file, _ in kind.train_list + kind.test_list]
    if not all((where / file).is_file() for file in files):  # an interrupted download goes on, too
        _download(kind, data_dir, where, url, attempts)
    arrays = {}
    try:
        for split in SPLITS:
            part = kind(str(data_dir), train=split == "train", download=False)
            images = part.data.numpy() if isinstance(part.data, torch.Tensor) else np.asarray(part.data)
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, np.asarray(part.targets, dtype=np.int64)
    except Exception as error:  # torchvision's readers raise many kinds on truncated files
        raise DatasetError(
            f"{where}: not the files of {name} ({error or type(error).__name__}); delete the folder"
        ) from error
    for split, expected in zip(SPLITS, (sources.BUILT_IN[name], 10_000), strict=True):
        if len(arrays[f"{split}_images"]) != expected:
            raise DatasetError(f"{where}: {expected} {split} images expected, found {len(arrays[f'{split}_images'])}")
    return arrays


def _download(kind, data_dir: Path, where: Path, url: str, attempts: int) -> None:
    """Download by torchvision, which verifies checksums; wait 1, 2, 4, ... seconds between attempts."""
    for attempt in range(attempts):
        try:
            kind(str(data_dir), train=True, download=True)
            return
        except (OSError, RuntimeError, urllib.error.URLError) as error:
            reason = error
            if attempt + 1 < attempts:
                time.sleep(2**attempt)
    npz = sources.npz(kind.__name__.lower(), data_dir)
    raise DatasetError(
        f"no data set {kind.__name__} at {npz} or {where}, and {url} could not be downloaded "
        f"({attempts} attempts: {str(reason).splitlines()[0] if str(reason) else type(reason).__name__}); "
        "fetch it where there is a network, or set machine.data_dir"
    )


def _declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch for which its compiled operators were not built.

    Data sets need none of those operators, but importing torchvision registers shapes for two of them and fails
    where they are not declared.
    """
    schemas = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name, schema in schemas.items():
            library.define(name + schema)
        _declare_torchvision_operators.library = library  # the declarations live as long as this object
