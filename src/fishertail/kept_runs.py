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


def find(folders: Iterable[str | Path], run_path: str) -> str | None:
    """Where a run is kept: the first of `folders` that has it, None where no one has.

    Args:
        folders: what `keep` wrote.
        run_path: the directory of the run below `runs`, such as mnist-fc/bs16/seed0.
    """
    places = (Path(folder) / "runs" / run_path for folder in folders)
    return next((str(place) for place in places if place.is_dir()), None)


def blocks(place: str | Path) -> list[str]:
    """The directories of a kept run's blocks of epochs, in order."""
    return sorted(path.name for path in Path(place).glob("epochs*-*"))


def faults(place: str | Path, parameters: Mapping) -> Iterator[str]:
    """What forbids to take a kept run into a grid.

    Args:
        place: see `find`.
        parameters: the run and its network as the grid has them.
    """
    found = blocks(place)
    if not found:
        yield f"{place}: folders of blocks such as epochs0001-0010 expected, found none"
    needed = [*OF_A_RUN, *(f"{block}/{name}" for block in found for name in OF_A_BLOCK)]
    missing = [name for name in needed if not (Path(place) / name).is_file()]
    if missing:
        yield f"{place}: {', '.join(missing)} expected, not found"
    elif found:
        path = Path(place) / found[0] / "metrics.csv"
        try:
            trained = storage.read_provenance(path)["parameters"]["run"]
        except (StorageError, KeyError) as error:
            yield str(error) if isinstance(error, StorageError) else f"{path}: a table of the rule train expected"
            return
        for key, value in parameters.items():
            if trained.get(key) != value:
                yield f"{place}: trained with {key} {trained.get(key)!r}, expected {value!r}"


def keep(results: str | Path, folder: str | Path) -> list[str]:
    """Copy the tables of every finished run below `results` to `folder`.

    A run that was kept there before is replaced as a whole.

    Returns:
        the directories of these runs below `runs`.
    """
    kept = []
    for last in sorted(Path(results).glob("runs/*/bs*/seed*/at_minimum/spectrum.csv")):
        source = last.parents[1]
        # folders of other blocks may be left from before `epochs` or `epochs_per_job` was changed
        of_run = [Block.of(epochs).path for epochs in storage.read_provenance(last)["parameters"]["blocks"]]
        names = [*OF_A_RUN, *(f"{block}/{name}" for block in of_run for name in OF_A_BLOCK)]
        if not all((source / name).is_file() for name in names):
            continue
        target = Path(folder) / source.relative_to(results)
        new = target.with_name(f".{target.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
        kept.append(str(target.relative_to(Path(folder) / "runs")))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid as tables.")
    parser.add_argument("folder", help="where to; name it under `kept` in the configuration to take them from there")
    parser.add_argument("--results", default="results", help="where they are")
    options = parser.parse_args()
    for run in keep(options.results, options.folder):
        print(f"kept {run}")


if __name__ == "__main__":
    main()
