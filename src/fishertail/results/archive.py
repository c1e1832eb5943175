"""Runs that were finished earlier or on another machine, kept as tables: kilobytes instead of gigabytes.

`python -m fishertail.execution.keep FOLDER` keeps finished runs, and the key `kept` of the configuration takes them
back into the grid, file by file: what was measured later is missing from a kept run, and shown as missing. If its last
weights are kept as well, training goes on from them when the grid wants more epochs.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fishertail.errors import StorageError
from fishertail.results import of_run, storage
from fishertail.results.run import LANDMARKS, Block

LAST_WEIGHTS = "last_weights.safetensors"
METRICS = "metrics.csv"  # whose provenance says what the run consists of


def find(folders: Iterable[str | Path], run_path: str) -> str | None:
    """Where a run is kept: the first of `folders` that has it, None if none of them has it.

    Args:
        folders: what `keep` wrote.
        run_path: the directory of the run below `runs`, such as mnist-fc/bs16/seed0.
    """
    places = (Path(folder) / "runs" / run_path for folder in folders)
    return next((str(place) for place in places if place.is_dir()), None)


def blocks(place: str | Path) -> list[Block]:
    """The blocks of epochs of a finished run, in order.

    Others may be left beside them from before `epochs` or `epochs_per_job` was changed.

    Raises:
        StorageError: its metrics.csv is missing or broken.
    """
    return [Block.of(epochs) for epochs in _parameters(place)["blocks"]]


def has(place: str | Path, name: str) -> bool:
    """Whether a file of a run is kept."""
    return (Path(place) / name).is_file()


def files(place: str | Path, name: str) -> list[str]:
    """The kept files of a name: of the run, its landmarks and its blocks."""
    return [str(folder / name) for folder in _folders(place) if has(folder, name)]


def options(path: str | Path) -> dict[str, Any]:
    """The options with which a kept table was measured.

    Raises:
        StorageError: the file is broken.
    """
    found: dict[str, Any] = storage.read_provenance(path)["parameters"].get("options", {})
    return found


def faults(place: str | Path, parameters: Mapping[str, Any], epochs: int) -> Iterator[str]:
    """Why a kept run cannot be taken into a grid.

    Args:
        place: see `find`.
        parameters: the run and its network as the grid has them.
        epochs: how many the grid wants of it; more may be kept.
    """
    try:
        record = storage.read_provenance(Path(place) / METRICS)
        of_run.check(Path(place) / METRICS, record, parameters)
        trained, last = record["parameters"]["run"], blocks(place)[-1].last
    except StorageError as error:
        yield str(error)
        return
    for key, value in parameters.items():
        if trained[key] != value:
            yield f"{place}: trained with {key} {trained[key]!r}, expected {value!r}"
    for path, of_file in _records(place):
        try:
            of_run.check(path, of_file, parameters)
        except StorageError as error:
            yield str(error)
        else:
            if other := of_run.difference(of_file, record):
                yield f"{path}: unlike {METRICS}, of a training with {other} (remove this file)"
    if last < epochs and not has(place, LAST_WEIGHTS):
        yield (
            f"{place}: {last} epochs, expected {epochs} or more, or {LAST_WEIGHTS} to go on from "
            "(remove this folder to have the run computed)"
        )


@contextmanager
def _copying() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename  # what is copied to, where a copy fails
        raise StorageError(f"{path}: cannot write: {error.strerror or error}") from error


@_copying()
def keep(
    results: str | Path,
    folder: str | Path,
    *,
    of_checkpoints: Sequence[str],
    of_run: Sequence[str],
    of_blocks: Sequence[str] = (),
    last_weights: Callable[[Path, Path], None] | None = None,
    left_out: Callable[[Path, str], None] = lambda path, why: None,
) -> dict[str, list[str]]:
    """Copy the tables of every finished run below `results` to `folder`.

    Files that `folder` already has and `results` lacks stay, so that a run that went on from its last weights is kept
    whole. Files of a training other than that of metrics.csv, such as at another rate, are left out: they are neither
    copied nor do they stay. A kill leaves the run as it was or as it is to be.

    Args:
        of_checkpoints: names of files in the folders of blocks and landmarks.
        of_run: names of files in the folder of the run.
        of_blocks: names of files in the folders of blocks alone.
        last_weights: called with the folder of the last block and a path, writes the block's last weights there, or
            nothing where it has none; None keeps no weights.
        left_out: called with each file of another training, and how that differs.

    Returns:
        by the directories of these runs below `runs`, the files that were expected and are missing.

    Raises:
        StorageError: a file of a run is broken, or cannot be written.
    """
    kept = {}
    for metrics in sorted(Path(results).glob(f"runs/*/bs*/seed*/{METRICS}")):
        source = metrics.parent
        target = Path(folder) / source.relative_to(results)
        new, old = (target.with_name(f".{target.name}.{state}") for state in ("new", "old"))
        if old.exists() and not target.exists():  # killed between the two renames below
            old.rename(target)
        shutil.rmtree(new, ignore_errors=True)
        training, trained, missing = _Training(source, target), blocks(source), []
        names = [METRICS, *of_run, *(f"{block.path}/{METRICS}" for block in trained)]
        names += [f"{LANDMARKS}/{name}" for name in of_checkpoints]
        for name in (*of_checkpoints, *of_blocks):  # none is missing from the blocks after the last that has it, since
            within = [f"{block.path}/{name}" for block in trained]  # a schedule may end early or take landmarks alone
            there = [i for i, path in enumerate(within) if training.find(path)]
            names += within[: there[-1] + 1] if there else []
        for name in names:
            found = training.find(name)
            if found is None:
                missing.append(name)
                continue
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, new / name)
        if last_weights is not None:
            last = f"{trained[-1].path}/{METRICS}"
            if training.find(last) == source / last:
                last_weights(source / trained[-1].path, new / LAST_WEIGHTS)
            if not has(new, LAST_WEIGHTS) and (found := training.find(LAST_WEIGHTS)):
                shutil.copyfile(found, new / LAST_WEIGHTS)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        kept[str(target.relative_to(Path(folder) / "runs"))] = missing
        for path, other in training.others.items():
            left_out(path, other)
    return kept


class _Training:
    """The files of the training that the metrics.csv of a run is of.

    Attributes:
        others: files of another training, and how that differs.
    """

    def __init__(self, *places: Path) -> None:
        """Look for them in these folders, the first of which has that metrics.csv."""
        self._places = places
        self._record = storage.read_provenance(places[0] / METRICS)
        self.others: dict[Path, str] = {}

    def find(self, name: str) -> Path | None:
        """The file in the first place that has it of this training, or None."""
        for place in self._places:
            if not has(place, name):
                continue
            other = self._difference(place, name)
            if other is None:
                return place / name
            self.others[place / name] = other
        return None

    def _difference(self, place: Path, name: str) -> str | None:
        record = storage.read_provenance(place / name)
        if "run" not in record["parameters"] and has(place, METRICS):  # of version 0.1, which names its network there
            record |= {"parameters": _parameters(place)}
        return of_run.difference(record, self._record)


def _folders(place: str | Path) -> list[Path]:
    """Those of a run's files: its own, that of its landmarks, and those of its blocks."""
    return [Path(place), Path(place) / LANDMARKS, *(Path(place) / block.path for block in blocks(place))]


def _records(place: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file of a run with its provenance, but for broken ones, which are named where they are read."""
    for path in (path for folder in _folders(place) for path in sorted(folder.glob("*.*"))):
        with suppress(StorageError):
            yield path, storage.read_provenance(path)


def _parameters(place: str | Path) -> dict[str, Any]:
    """The parameters of the rule that joined the metrics: the run, its network, its blocks."""
    found: dict[str, Any] = storage.read_provenance(Path(place) / METRICS)["parameters"]
    return found
