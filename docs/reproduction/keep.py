"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py [--weights] [--shared]

Some megabytes instead of tens of gigabytes: what the grid needs of each finished run (fishertail.execution.keep), the
figures as SVG with their tables, the tables over all runs, and the times of all jobs that were not killed in between.
Of a machine that was shared only CPU seconds are kept, since estimates are made from wall-clock times.

The figures and tables are those of the runs in --results, and take the place of those kept before: after a stage of
run.sh, keep its runs with --runs-only, make the figures and tables of all kept runs (README.md here), and keep these.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from fishertail.errors import StorageError
from fishertail.execution.keep import keep as keep_runs
from fishertail.grid import times
from fishertail.grid.estimate import EVALUATION
from fishertail.measurements.measurement import measurements
from fishertail.results import storage
from fishertail.results.run import Block

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CPU_SECONDS = HERE / "cpu_seconds.csv"
OF_THE_GRID = ["figures/*.svg", "figures/*.csv", "tables/*.csv"]
TIMES = HERE / "times.csv"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def units(results: Path, rule: str, job: str) -> float | None:
    """Epochs that a job trained, or checkpoints that it measured, by the table that it wrote; None if it is not there.

    Epochs are counted as `fishertail.grid.estimate` does, with their evaluation at checkpoints inside an epoch.
    """
    of_run, _, block = job.rpartition("-epochs")
    files = {each.rule: each.tables[0] for each in measurements().values()}
    place = results / "runs" / Path(*of_run.rsplit("-", 2)) / f"epochs{block}"
    if rule == "train" and (place / "metrics.csv").is_file():
        evaluated = storage.read_table(place / "metrics.csv")["epoch"]
        at = Block.at(place.name)
        return at.last - at.first + 1 + EVALUATION * int((evaluated % 1 > 0).sum())
    if rule in files and (place / files[rule].file).is_file():
        return float(storage.read_table(place / files[rule].file)["step"].nunique())
    return None


def keep_times(results: Path, benchmarks: Path, logs: Path, *, shared: bool) -> None:
    """Seconds of the jobs that did all of their work in one start, beside those that are kept already."""
    rows = []
    for path in benchmarks.glob("*/*.tsv"):
        rule, job = path.parent.name, path.stem
        if times.resumed(logs / rule / f"{job}.log"):
            continue
        measured = pd.read_table(path).iloc[-1]
        row: dict[str, Any] = {"rule": rule, "job": job}
        if not shared:
            row |= {"seconds": measured["s"], "units": units(results, rule, job)}
        rows.append(row | {"cpu": measured["cpu_time"]})
    if not shared:
        rows = [row for row in rows if row["units"] is not None]  # of no use to an estimate
    if not rows:
        return
    path = CPU_SECONDS if shared else TIMES
    earlier = pd.read_csv(path) if path.exists() else None
    kept = pd.concat([earlier, pd.DataFrame(rows)]).drop_duplicates(["rule", "job"], keep="last")
    kept.sort_values(["rule", "job"]).to_csv(path, index=False)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid, its figures and its tables.")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where they are")
    parser.add_argument("--benchmarks", type=Path, default=ROOT / "benchmarks" / "results", help="the times of jobs")
    parser.add_argument("--logs", type=Path, default=ROOT / "logs", help="which say what jobs were killed in between")
    parser.add_argument("--weights", action="store_true", help="also keep the last weights, for further training")
    parser.add_argument("--runs-only", action="store_true", help="keep no figures and tables over all runs")
    parser.add_argument("--shared", action="store_true", help="keep no wall-clock times: the machine was shared")
    options = parser.parse_args()
    try:
        kept = keep_runs(options.results, HERE, weights=options.weights)
    except StorageError as error:
        parser.exit(2, f"error: {error}\n")
    for run, missing in kept.items():
        print(f"kept {run}{f'; without {len(missing)} files: {missing[0]}, ...' if missing else ''}")
    for pattern in () if options.runs_only else OF_THE_GRID:
        for path in options.results.glob(pattern):
            copy(path, HERE / path.relative_to(options.results))
    keep_times(options.results, options.benchmarks, options.logs, shared=options.shared)


if __name__ == "__main__":
    main()
