"""A user's data_dir/NAME.npz with train_images, train_labels, test_images and test_labels."""

import zipfile
from pathlib import Path

from fishertail.data.source import SPLITS, Arrays, Source
from fishertail.errors import DatasetError


def load(name: str, data_dir: Path, attempts: int) -> tuple[Arrays, str | Path]:
    """The arrays of the file, and its path."""
    import numpy as np

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


def files(name: str, data_dir: Path) -> list[Path]:
    """The file, if it exists."""
    path = data_dir / f"{name}.npz"
    return [path] if path.is_file() else []


def training_samples(name: str, data_dir: Path) -> int | None:
    """What the header of train_labels says; None where it says nothing, in which case `load` names the fault."""
    import numpy as np

    try:
        with zipfile.ZipFile(data_dir / f"{name}.npz") as archive, archive.open("train_labels.npy") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            return int(read_header[version](file)[0][0])
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile):
        return None


SOURCE = Source(
    name="npz",
    meaning="a file `data_dir/NAME.npz` with `train_images`, `train_labels`, `test_images` and `test_labels`",
    load=load,
    files=files,
    training_samples=training_samples,
    looked_for=lambda name, data_dir: f"a file {data_dir / f'{name}.npz'}",
    overrides=True,
)
