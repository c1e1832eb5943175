"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py

Some megabytes in place of tens of gigabytes: figures as SVG with their tables, the tables over all runs, and of each
run its curves, spectra and histograms.
"""

import shutil
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OF_RUNS = ["*.csv", "ax_histograms.parquet", "at_minimum/spectrum.csv", "at_minimum/ax_histogram.parquet",
           "epochs*/spectrum.csv"]  # fmt: skip
OF_THE_GRID = ["figures/*.svg", "figures/*.csv", "tables/*.csv"]
TIMES = HERE / "times.csv"


def copy(source: Path, target: Path, patterns: list[str]) -> None:
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        kept = target / path.relative_to(source)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)


def keep(results: Path, benchmarks: Path) -> None:
    """Runs as far as they are finished; the figures and tables over all of them."""
    copy(results, HERE, OF_THE_GRID)
    for run in results.glob("runs/*/bs*/seed*"):
        if (run / "trimmed_eigenvalues.csv").exists():
            copy(run, HERE / run.relative_to(results), OF_RUNS)
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
