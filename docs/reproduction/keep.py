"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py [--weights]

Some megabytes instead of tens of gigabytes: what the grid needs of each finished run (fishertail.execution.keep), the
figures as SVG with their tables, the tables over all runs, and the times of all jobs.
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from fishertail.execution.keep import keep as keep_runs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OF_THE_GRID = ["figures/*.svg", "figures/*.csv", "tables/*.csv"]
TIMES = HERE / "times.csv"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def keep(results: Path, benchmarks: Path, *, weights: bool) -> None:
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
    earlier = pd.read_csv(TIMES) if TIMES.exists() else None
    times = pd.concat([earlier, pd.DataFrame(rows)]).drop_duplicates(["rule", "job"], keep="last")
    times.sort_values(["rule", "job"]).to_csv(TIMES, index=False)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Keep the finished runs of the grid, its figures and its tables.")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where they are")
    parser.add_argument("--benchmarks", type=Path, default=ROOT / "benchmarks" / "results", help="the times of jobs")
    parser.add_argument("--weights", action="store_true", help="also keep the last weights, for further training")
    options = parser.parse_args()
    keep(options.results, options.benchmarks, weights=options.weights)


if __name__ == "__main__":
    main()
