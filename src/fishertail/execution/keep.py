"""Keep finished runs as tables: python -m fishertail.execution.keep FOLDER

Copies what the tables and figures over all runs need of each finished run below results/, and a_x of every sample at
the lowest validation loss, but no weights, eigenvectors or a_x of other checkpoints. With `--weights` the last weights
are kept as well, and training goes on from them when the grid wants more epochs. The key `kept` of the configuration
takes the runs from FOLDER. Of a run that FOLDER has already, what is not below results/ stays, unless it was trained
otherwise.
"""

import argparse
from pathlib import Path

from fishertail.errors import StorageError
from fishertail.measurements.measurement import measurements
from fishertail.results import archive, storage


def keep(results: str | Path, folder: str | Path, *, weights: bool = False) -> dict[str, list[str]]:
    """Copy the tables of every finished run below `results` to `folder`, and print what is left out.

    Args:
        weights: also keep the weights after the last step.

    Returns:
        see `fishertail.results.archive.keep`; what is not measured by default is not missing.
    """
    optional = {table.file for each in measurements().values() if not each.options().enabled for table in each.tables}
    kept = [(each.scope, table.file) for each in measurements().values() for table in each.tables if table.kept]
    found = archive.keep(
        results,
        folder,
        of_checkpoints=[file for scope, file in kept if scope == "gradients"],
        of_blocks=[file for scope, file in kept if scope == "pair"],
        of_run=[file for scope, file in kept if scope in ("tables", "run")],
        last_weights=_keep_last if weights else None,
        left_out=lambda path, other: print(f"left out {path}: of a training with {other}"),
    )
    return {run: [name for name in missing if Path(name).name not in optional] for run, missing in found.items()}


def _keep_last(block: Path, path: Path) -> None:
    from fishertail.training import checkpoints

    trained = block / checkpoints.FILE
    if trained.is_file():
        step, state = checkpoints.read_last(str(trained))
        checkpoints.write({step: state}, str(path), storage.read_provenance(trained))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid as tables.")
    parser.add_argument("folder", help="target; list it under `kept` in the configuration to take the runs from there")
    parser.add_argument("--results", default="results", help="where the runs are")
    parser.add_argument("--weights", action="store_true", help="also keep the last weights, for further training")
    options = parser.parse_args()
    try:
        kept = keep(options.results, options.folder, weights=options.weights)
        if not kept:
            raise StorageError(f"{options.results}: a folder with finished runs in runs/ expected, found none")
    except StorageError as error:
        parser.exit(2, f"error: {error}\n")
    for run, missing in kept.items():
        print(f"kept {run}{f'; without {len(missing)} files: {missing[0]}, ...' if missing else ''}")


if __name__ == "__main__":
    main()
