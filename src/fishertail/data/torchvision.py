"""MNIST and CIFAR-10 as torchvision reads and downloads them."""

import time
import urllib.error
from pathlib import Path

import numpy as np
import torch

from fishertail.data.dataset import SPLITS
from fishertail.errors import DatasetError

TRAINING = {"mnist": 60_000, "cifar10": 50_000}  # samples


def load(name: str, data_dir: Path, attempts: int) -> tuple[dict[str, np.ndarray], str | Path]:
    """The images as the official files have them, and where these lie; downloaded where they are missing."""
    declare_torchvision_operators()
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
    for split, expected in zip(SPLITS, (TRAINING[name], 10_000), strict=True):
        if len(arrays[f"{split}_images"]) != expected:
            raise DatasetError(f"{where}: {expected} {split} images expected, found {len(arrays[f'{split}_images'])}")
    return arrays, where


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
    npz = data_dir / f"{kind.__name__.lower()}.npz"
    raise DatasetError(
        f"no data set {kind.__name__} at {npz} or {where}, and {url} could not be downloaded "
        f"({attempts} attempts: {str(reason).splitlines()[0] if str(reason) else type(reason).__name__}); "
        "fetch it where there is a network, or set machine.data_dir"
    )


def declare_torchvision_operators() -> None:
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
        declare_torchvision_operators.library = library  # the declarations live as long as this object
