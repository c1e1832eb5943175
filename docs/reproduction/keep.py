"""Keep what a run of the paper's grid found as compact tables: python docs/reproduction/keep.py [results]

Figures as SVG with their tables, the tables over all runs, and of each run its curves and spectra: some megabytes in
place of tens of gigabytes.
"""

import shutil
import sys
from pathlib import Path

KEPT = {
    "figures": ["figures/*.svg", "figures/*.csv"],
    "tables": ["tables/*.csv"],
    "runs": ["runs/*/*/*/metrics.csv", "runs/*/*/*/ax_statistics.csv", "runs/*/*/*/trimmed_eigenvalues.csv",
             "runs/*/*/*/outliers.csv", "runs/*/*/*/at_minimum/spectrum.csv", "runs/*/*/*/epochs*/spectrum.csv"],
}  # fmt: skip


def keep(results: Path, target: Path) -> None:
    for patterns in KEPT.values():
        for path in (path for pattern in patterns for path in results.glob(pattern)):
            copy = target / path.relative_to(results)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


if __name__ == "__main__":
    keep(Path(sys.argv[1] if len(sys.argv) > 1 else "results"), Path(__file__).parent)
