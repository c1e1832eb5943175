"""A user's tree of pictures, data_dir/NAME/{train,test}/<class>/*.png."""

from pathlib import Path
from typing import TYPE_CHECKING

from fishertail.data.source import SPLITS, Arrays, Source
from fishertail.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np

# Pillow's modes of at most 8 bits a channel
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def load(name: str, data_dir: Path, attempts: int) -> tuple[Arrays, str | Path]:
    """Images and labels, classes in the order of their folders' names, and the root of the tree."""
    import numpy as np

    root = data_dir / name
    arrays: dict[str, np.ndarray] = {}
    classes: list[str] = []
    for split in SPLITS:
        directory = root / split
        found = sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
        if not found:
            raise DatasetError(f"{directory}: one folder for each class expected, found none")
        classes = classes or found
        if not set(found) <= set(classes):
            raise DatasetError(f"{directory}: classes {sorted(set(found) - set(classes))} are not among those of train")
        paths = [path for name in found for path in _pictures(directory / name, needed=split == "train")]
        images: list[np.ndarray] = []
        for path in paths:
            images.append(_pixels(path))
            if images[-1].shape != images[0].shape:
                raise DatasetError(
                    f"{path}: shape {images[0].shape} as in {paths[0]} expected, found {images[-1].shape}"
                )
        arrays[f"{split}_images"] = np.stack(images) if images else np.empty((0, 1, 1), np.uint8)
        arrays[f"{split}_labels"] = np.array([classes.index(path.parent.name) for path in paths], dtype=np.int64)
    return arrays, root


def _pictures(folder: Path, *, needed: bool) -> list[Path]:
    """The files of a class: none of them may be overlooked, and in training a class without any is no class."""
    paths = sorted(folder.iterdir())
    inside = next((path for path in paths if path.is_dir()), None)
    if inside is not None:
        raise DatasetError(f"{inside}: a picture expected, found a folder")
    if needed and not paths:
        raise DatasetError(f"{folder}: pictures of a class expected, found none")
    return paths


def _pixels(path: Path) -> "np.ndarray":
    """The first frame as it is stored, (H, W) of grey or (H, W, 3)."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in _MODES:
                return np.asarray(image if image.mode == "L" else image.convert("RGB"))
            mode = image.mode
    except Exception as error:
        raise DatasetError(f"{path}: not a readable image ({error})") from error
    raise DatasetError(  # Pillow would cut off what exceeds 8 bits
        f"{path}: an image of 8 bits a channel expected, found Pillow's mode {mode}; scale it to 0 to 255"
    )


def files(name: str, data_dir: Path) -> list[Path]:
    """The pictures; none where there is no such tree."""
    root = data_dir / name
    found = (path for split in SPLITS for path in root.glob(f"{split}/*/*") if path.is_file())
    return sorted(found) if (root / "train").is_dir() else []


def training_samples(name: str, data_dir: Path) -> int:
    """The number of pictures below train/."""
    return sum(1 for path in (data_dir / name / "train").glob("*/*") if path.is_file())


SOURCE = Source(
    name="folder",
    meaning=(
        "pictures below `data_dir/NAME/{train,test}/<class>/` in any format that Pillow reads, of at most 8 bits a "
        "channel: the first frame as it is stored, without transparency and whatever orientation EXIF names"
    ),
    load=load,
    files=files,
    training_samples=training_samples,
    looked_for=lambda name, data_dir: f"a folder {data_dir / name / 'train'}/<class>/",
)
