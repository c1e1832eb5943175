"""Which files a data set is read from; imports nothing heavy, since the Snakefile asks it while it is parsed."""

import zipfile
from pathlib import Path

import numpy as np

from fishertail.errors import DatasetError

BUILT_IN = {"digits": 1437, "mnist": 60_000, "cifar10": 50_000}  # training samples


class SourceError(DatasetError):
    """No such data set: neither built in nor a file or a folder in data_dir."""


def npz(name: str, data_dir: Path) -> Path:
    return Path(data_dir) / f"{name}.npz"


def folder(name: str, data_dir: Path) -> Path:
    return Path(data_dir) / name


def module(name: str, data_dir: Path, *, check_files: bool = True) -> str:
    """The module of this package that loads the data set `name`, on which alone the prepared file depends.

    Raises:
        SourceError: the data set is neither built in nor found in `data_dir`.
    """
    if npz(name, data_dir).is_file():
        return "data.npz"
    if name in BUILT_IN:
        return "data.digits" if name == "digits" else "data.torchvision"
    if not folder(name, data_dir).is_dir():
        training_samples(name, data_dir, check_files=check_files)  # raises the error that lists what was looked for
    return "data.folder"


def source_files(name: str, data_dir: Path) -> list[str]:
    """The user's files that the data set `name` comes from, for Snakemake to watch."""
    if npz(name, data_dir).is_file():
        return [str(npz(name, data_dir))]
    if name not in BUILT_IN and folder(name, data_dir).is_dir():
        return sorted(str(path) for path in folder(name, data_dir).glob("*/*/*") if path.is_file())
    return []


def training_samples(name: str, data_dir: Path, *, check_files: bool = True) -> int | None:
    """The number of training samples as far as it can be told without reading the data, else None.

    Raises:
        SourceError: the data set is neither built in nor found in `data_dir`.
    """
    if name in BUILT_IN and not npz(name, data_dir).is_file():
        return BUILT_IN[name]
    if not check_files:
        return None
    if npz(name, data_dir).is_file():
        try:
            with zipfile.ZipFile(npz(name, data_dir)) as archive, archive.open("train_labels.npy") as file:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                return read_header[version](file)[0][0]
        except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile):
            return None  # `datasets.load` names the fault
    train = folder(name, data_dir) / "train"
    if train.is_dir():
        return sum(1 for path in train.glob("*/*") if path.is_file())
    raise SourceError(
        f"unknown data set {name!r}, expected one of {', '.join(BUILT_IN)}, or a file {npz(name, data_dir)}, "
        f"or a folder {train}/<class>/"
    )
