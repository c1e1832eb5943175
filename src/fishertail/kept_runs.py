"""Runs of the grid that were finished before, or on another machine, kept as tables: megabytes in place of gigabytes.

What every table, figure and the page over all runs needs is kept, and nothing else: no weights, no eigenvectors, no a_x
of single samples. `python -m fishertail.kept_runs FOLDER` keeps the finished runs below results/, and the key `kept` of
the configuration takes them into the grid again.
"""

import argparse
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fishertail import storage
from fishertail.errors import StorageError
from fishertail.grid import Block

OF_A_RUN = (
    "metrics.csv", "outliers.csv", "outlier_samples.csv", "ax_statistics.csv", "trimmed_eigenvalues.csv",
    "ax_histograms.parquet", "at_minimum/spectrum.csv", "at_minimum/ax_histogram.parquet",
)  # fmt: skip
OF_A_BLOCK = ("metrics.csv", "spectrum.csv")
_RECORD = "at_minimum/spectrum.csv"  # whose provenance says what the run consists of


def find(folders: Iterable[str | Path], run_path: str) -> str | None:
    """Where a run is kept: the first of `folders` that has it, None where no one has.

    Args:
        folders: what `keep` wrote.
        run_path: the directory of the run below `runs`, such as mnist-fc/bs16/seed0.
    """
    places = (Path(folder) / "runs" / run_path for folder in folders)
    return next((str(place) for place in places if place.is_dir()), None)


def blocks(place: str | Path) -> list[str]:
    """The directories of a finished run's blocks of epochs, in order.

    Others may be left beside them from before `epochs` or `epochs_per_job` was changed.

    Raises:
        StorageError: its at_minimum/spectrum.csv is missing or broken.
    """
    return [Block.of(epochs).path for epochs in _parameters(place)["blocks"]]


def faults(place: str | Path, parameters: Mapping, epochs: int) -> Iterator[str]:
    """What forbids to take a kept run into a grid.

    Args:
        place: see `find`.
        parameters: the run and its network as the grid has them.
        epochs: how many the grid wants of it; more may be kept.
    """
    try:
        missing = _missing(place)
        trained, kept_blocks = (_parameters(place)[key] for key in ("run", "blocks"))
    except StorageError as error:
        yield str(error)
        return
    if missing:
        yield f"{place}: {', '.join(missing)} expected, not found"
    for key, value in parameters.items():
        if trained[key] != value:
            yield f"{place}: trained with {key} {trained[key]!r}, expected {value!r}"
    if (last := kept_blocks[-1][-1]) < epochs:
        yield f"{place}: {last} epochs, expected {epochs} or more (remove this folder to have the run computed)"


def keep(results: str | Path, folder: str | Path) -> list[str]:
    """Copy the tables of every finished run below `results` to `folder`.

    A run that was kept there before is replaced as a whole.

    Returns:
        the directories of these runs below `runs`.
    """
    kept = []
    for last in sorted(Path(results).glob(f"runs/*/bs*/seed*/{_RECORD}")):
        source = last.parents[1]
        if _missing(source):
            continue
        target = Path(folder) / source.relative_to(results)
        new = target.with_name(f".{target.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        for name in _needed(source):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
        kept.append(str(target.relative_to(Path(folder) / "runs")))
    return kept


def _parameters(place: str | Path) -> dict:
    """With which the run was analysed at its lowest validation loss: the run, its network, its blocks."""
    return storage.read_provenance(Path(place) / _RECORD)["parameters"]


def _needed(place: str | Path) -> list[str]:
    return [*OF_A_RUN, *(f"{block}/{name}" for block in blocks(place) for name in OF_A_BLOCK)]


def _missing(place: str | Path) -> list[str]:
    return [name for name in _needed(place) if not (Path(place) / name).is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid as tables.")
    parser.add_argument("folder", help="where to; name it under `kept` in the configuration to take them from there")
    parser.add_argument("--results", default="results", help="where they are")
    options = parser.parse_args()
    for run in keep(options.results, options.folder):
        print(f"kept {run}")


if __name__ == "__main__":
    main()
