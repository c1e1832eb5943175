"""MNIST and CIFAR-10 as torchvision reads and downloads them."""

import time
import urllib.error
from pathlib import Path
from typing import Any

from fishertail.data.operators import declare_torchvision_operators
from fishertail.data.source import SPLITS, Arrays, BuiltIn, Source
from fishertail.errors import DatasetError

TRAINING, TEST = {"mnist": 60_000, "cifar10": 50_000}, 10_000  # samples
BUILT_IN = {
    "mnist": BuiltIn("MNIST", TRAINING["mnist"], "60,000 + 10,000 grey images of 28 x 28, 10 classes; downloaded"),
    "cifar10": BuiltIn(
        "CIFAR-10",
        TRAINING["cifar10"],
        "50,000 + 10,000 colour images of 32 x 32, 10 classes; downloaded",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}


def load(name: str, data_dir: Path, attempts: int) -> tuple[Arrays, str | Path]:
    """The images of the official files, and the folder of these; they are downloaded if they are missing."""
    import numpy as np
    import torch

    declare_torchvision_operators()
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[name]
    if name == "mnist":
        where, url = data_dir / "MNIST" / "raw", kind.mirrors[-1]
        files = [file.removesuffix(".gz") for file, _ in kind.resources]
    else:
        where, url = data_dir / "cifar-10-batches-py", kind.url
        files = [file for file, _ in kind.train_list + kind.test_list]
    if not all((where / file).is_file() for file in files):  # also after an interrupted download
        _download(kind, data_dir, where, url, attempts)
    arrays: dict[str, np.ndarray] = {}
    try:
        for split in SPLITS:
            part = kind(str(data_dir), train=split == "train", download=False)
            images = part.data.numpy() if isinstance(part.data, torch.Tensor) else np.asarray(part.data)
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, np.asarray(part.targets, dtype=np.int64)
    except Exception as error:  # torchvision's readers raise many kinds on truncated files
        raise DatasetError(
            f"{where}: not the files of {name} ({error or type(error).__name__}); delete the folder"
        ) from error
    for split, expected in zip(SPLITS, (TRAINING[name], TEST), strict=True):
        if len(arrays[f"{split}_images"]) != expected:
            raise DatasetError(f"{where}: {expected} {split} images expected, found {len(arrays[f'{split}_images'])}")
    return arrays, where


def _download(kind: Any, data_dir: Path, where: Path, url: str, attempts: int) -> None:
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


SOURCE = Source(
    name="torchvision",
    meaning="MNIST and CIFAR-10, downloaded by torchvision where they are missing",
    load=load,
    built_in=BUILT_IN,
)
