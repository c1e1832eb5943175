"""A user's tree of pictures, data_dir/NAME/{train,test}/<class>/*.png."""

from pathlib import Path

import numpy as np

from fishertail.data.dataset import SPLITS
from fishertail.errors import DatasetError


def load(name: str, data_dir: Path, attempts: int) -> tuple[dict[str, np.ndarray], str | Path]:
    """Images and labels, classes in the order of their folders' names, and the root of the tree."""
    root = data_dir / name
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
    return arrays, root
