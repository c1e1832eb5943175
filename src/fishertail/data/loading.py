"""Loads a data set by its name, from the source that has it."""

from pathlib import Path

from fishertail.data.dataset import Dataset, checked
from fishertail.data.source import source_of


def load(name: str, data_dir: str | Path = "data", *, attempts: int = 3) -> Dataset:
    """Load a data set from its source, which may download it where it is missing.

    Args:
        name: of a built-in data set, of a file NAME.npz in `data_dir`, or of a tree NAME/{train,test}/<class>/ there.
        attempts: at a download.

    Raises:
        DatasetError: names the file and the fault, or the paths looked at and the URL tried.
    """
    return checked(name, *source_of(name, data_dir).load(name, Path(data_dir), attempts))
