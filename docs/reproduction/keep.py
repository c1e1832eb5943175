"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py [--weights] [--shared]

Some megabytes instead of tens of gigabytes: what the grid needs of each finished run (fishertail.execution.keep), the
figures as SVG with their tables, the tables over all runs, and the times of all jobs. Of a machine that was shared only
CPU seconds are kept, since estimates are made from wall-clock times.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from fishertail.execution.keep import keep as keep_runs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CPU_SECONDS = HERE / "cpu_seconds.csv"
OF_THE_GRID = ["figures/*.svg", "figures/*.csv", "tables/*.csv"]
TIMES = HERE / "times.csv"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def keep(results: Path, benchmarks: Path, *, weights: bool, shared: bool) -> None:
    """Runs as far as they are finished; the figures and tables over all of them."""
    keep_runs(results, HERE, weights=weights)
    for pattern in OF_THE_GRID:
        for path in results.glob(pattern):
            copy(path, HERE / path.relative_to(results))
    rows = []
    for path in benchmarks.glob("*/*.tsv"):
        measured = pd.read_table(path).iloc[-1]
        rows.append({"rule": path.parent.name, "job": path.stem, "seconds": measured["s"], "cpu": measured["cpu_time"]})
    if not rows:
        return
    path = CPU_SECONDS if shared else TIMES
    found = pd.DataFrame(rows).drop(columns="seconds" if shared else [])
    earlier = pd.read_csv(path) if path.exists() else None
    times = pd.concat([earlier, found]).drop_duplicates(["rule", "job"], keep="last")
    times.sort_values(["rule", "job"]).to_csv(path, index=False)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid, its figures and its tables.")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where they are")
    parser.add_argument("--benchmarks", type=Path, default=ROOT / "benchmarks" / "results", help="the times of jobs")
    parser.add_argument("--weights", action="store_true", help="also keep the last weights, for further training")
    parser.add_argument("--shared", action="store_true", help="keep no wall-clock times: the machine was shared")
    options = parser.parse_args()
    keep(options.results, options.benchmarks, weights=options.weights, shared=options.shared)


if __name__ == "__main__":
    main()
