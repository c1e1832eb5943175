"""A user's data_dir/NAME.npz with train_images, train_labels, test_images and test_labels."""

from pathlib import Path

import numpy as np

from fishertail.data.dataset import SPLITS
from fishertail.errors import DatasetError


def load(name: str, data_dir: Path, attempts: int) -> tuple[dict[str, np.ndarray], str | Path]:
    """The arrays of the file, and its path."""
    path = data_dir / f"{name}.npz"
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise DatasetError(f"{path}: arrays {', '.join(names)} expected, {', '.join(missing)} missing")
            return {name: file[name] for name in names}, path
    except DatasetError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds on truncated or foreign files
        raise DatasetError(f"{path}: not a readable npz file ({error})") from error
