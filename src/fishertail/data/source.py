"""What a source of data sets declares: which it has, which files they come from, and how they are read.

Imports nothing heavy, since the Snakefile asks for the sources while it is parsed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fishertail import registry
from fishertail.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np

PACKAGE, CONSTANT = "fishertail.data", "SOURCE"
OTHERS = frozenset({"source", "dataset", "loading", "operators"})  # modules that register nothing
SPLITS = ("train", "test")

Arrays = Mapping[str, "np.ndarray"]  # train_images, train_labels, test_images and test_labels


class UnknownDatasetError(DatasetError):
    """No such data set: neither built in nor a file or a folder in data_dir."""


@dataclass(frozen=True)
class BuiltIn:
    """A data set that comes with its source."""

    title: str  # as figures name it
    training_samples: int
    meaning: str
    classes: tuple[str, ...] = ()  # their names; empty where the numbers are the names


@dataclass(frozen=True)
class Source:
    """Where data sets come from.

    Attributes:
        name: the name of the source.
        meaning: what it is, in the docs.
        load: called with a data set's name, data_dir and the number of attempts at a download; returns uint8 images and
            integer labels as `Arrays`, and where they come from.
        built_in: the data sets that come with it, by name.
        files: called with a name and data_dir; returns the user's files that the data set comes from, if any.
        training_samples: called with the same; returns their number if it is known without reading the images.
        looked_for: called with the same; returns what an error message lists as looked for.
        overrides: whether a user's file replaces a built-in data set of the same name.
    """

    name: str
    meaning: str
    load: Callable[[str, Path, int], tuple[Arrays, str | Path]]
    built_in: Mapping[str, BuiltIn] = field(default_factory=dict)
    files: Callable[[str, Path], list[Path]] | None = None
    training_samples: Callable[[str, Path], int | None] | None = None
    looked_for: Callable[[str, Path], str] | None = None
    overrides: bool = False


def sources() -> dict[str, Source]:
    """All sources by name."""
    return registry.registered(PACKAGE, CONSTANT, Source, OTHERS)


def built_in() -> dict[str, BuiltIn]:
    """All built-in data sets by name."""
    return {name: known for source in sources().values() for name, known in source.built_in.items()}


def source_of(name: str, data_dir: str | Path) -> Source:
    """The source that has the data set `name`.

    Raises:
        UnknownDatasetError: no source has it.
    """
    folder = Path(data_dir)
    with_files = [source for source in sources().values() if source.files is not None]
    for source in with_files:
        if source.overrides and source.files is not None and source.files(name, folder):
            return source
    for source in sources().values():
        if name in source.built_in:
            return source
    for source in with_files:
        if source.files is not None and source.files(name, folder):
            return source
    looked_for = [source.looked_for(name, folder) for source in with_files if source.looked_for is not None]
    raise UnknownDatasetError(
        f"unknown data set {name!r}, expected one of {', '.join(built_in())}, or {', or '.join(looked_for)}"
    )


def module(source: Source) -> str:
    """The module of a source, for the hash of code."""
    return registry.module_of(PACKAGE, CONSTANT, source, OTHERS)


def source_files(name: str, data_dir: str | Path) -> list[str]:
    """The user's files that the data set `name` comes from, for Snakemake to watch; none for what is built in."""
    source = source_of(name, data_dir)
    return [] if source.files is None else [str(path) for path in source.files(name, Path(data_dir))]


def training_samples(name: str, data_dir: str | Path) -> int | None:
    """The number of training samples if it is known without reading the data, else None.

    Raises:
        UnknownDatasetError: no source has the data set.
    """
    source = source_of(name, data_dir)
    if name in source.built_in and not (source.files and source.files(name, Path(data_dir))):
        return source.built_in[name].training_samples
    return None if source.training_samples is None else source.training_samples(name, Path(data_dir))
