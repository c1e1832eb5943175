"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py [--weights]

Some megabytes instead of tens of gigabytes: what the grid needs of each finished run (fishertail.execution.keep), the
figures as SVG with their tables, the tables over all runs, and the times of all jobs.
"""

import shutil
import sys
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


def keep(results: Path, benchmarks: Path) -> None:
    """Runs as far as they are finished; the figures and tables over all of them."""
    keep_runs(results, HERE, weights="--weights" in sys.argv)
    for pattern in OF_THE_GRID:
        for path in results.glob(pattern):
            copy(path, HERE / path.relative_to(results))
    if (variants := results / "variants" / "tables" / "trimmed_eigenvalues.csv").exists():
        copy(variants, HERE / "variants" / variants.name)
    rows = []
    for path in benchmarks.glob("*/*.tsv"):
        measured = pd.read_table(path).iloc[-1]
        rows.append({"rule": path.parent.name, "job": path.stem, "seconds": measured["s"], "cpu": measured["cpu_time"]})
    if not rows:
        return
    earlier = pd.read_csv(TIMES) if TIMES.exists() else None
    times = pd.concat([earlier, pd.DataFrame(rows)]).drop_duplicates(["rule", "job"], keep="last")
    times.sort_values(["rule", "job"]).to_csv(TIMES, index=False)


if __name__ == "__main__":
    keep(ROOT / "results", ROOT / "benchmarks" / "results")
