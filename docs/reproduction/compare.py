"""The paper's printed numbers of Fig. 6 beside ours, in every model and layer: python docs/reproduction/compare.py

Which model and layer the paper means is not printed. The distance says how near a candidate comes to all that is
printed of its data set: the root of the mean square of log10(ours / printed) of A and of B / A, the share that is left.
Where the grid has a candidate's spectra at many epochs, the lowest and the highest A over them stand beside it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
TABLES = [HERE / "tables" / "trimmed_eigenvalues.csv", HERE / "variants" / "trimmed_eigenvalues.csv"]
PRINTED = pd.DataFrame(
    [
        ("cifar10", 16, 76.53, 30.60),
        ("cifar10", 256, 407.6, 55.66),
        ("mnist", 16, 0.3659, 1e-6),
        ("mnist", 256, 2.063, 0.2182),
    ],
    columns=["dataset", "batch_size", "printed_A", "printed_B"],
)
CANDIDATE = ["dataset", "model", "layer"]


def compare(trimmed: pd.DataFrame, spectra: pd.DataFrame) -> pd.DataFrame:
    """One row for each data set, model, layer and batch size: printed and ours (means over seeds), nearest first."""
    means = trimmed.groupby([*CANDIDATE, "batch_size"], as_index=False).agg(
        A=("A", "mean"), B=("B", "mean"), B_resolved=("B_resolved", "mean"), seeds=("seed", "nunique"),
        minimum_passed=("minimum", lambda found: (found == "passed").all()),
    )  # fmt: skip
    table = PRINTED.merge(means, on=["dataset", "batch_size"])
    over_epochs = spectra.groupby([*CANDIDATE, "batch_size"], as_index=False).agg(
        A_lowest=("eigenvalue", "min"), A_highest=("eigenvalue", "max")
    )
    table = table.merge(over_epochs, how="left", on=[*CANDIDATE, "batch_size"])
    left, printed_left = table["B"] / table["A"], table["printed_B"] / table["printed_A"]
    squares = np.log10(table["A"] / table["printed_A"]) ** 2 + np.log10(left / printed_left) ** 2
    table["distance"] = np.sqrt(squares.groupby([table[column] for column in CANDIDATE]).transform("mean") / 2)
    return table.sort_values(["dataset", "distance", "batch_size"], kind="stable")


def spectra_of_kept_runs() -> pd.DataFrame:
    """lambda_1 of every kept run, analysed checkpoint and layer."""
    parts = []
    for path in sorted(HERE.glob("runs/*/bs*/seed*/epochs*/spectrum.csv")):
        network, batch_size, _, _ = path.relative_to(HERE / "runs").parts[:4]
        dataset, _, model = network.partition("-")
        part = pd.read_csv(path, comment="#").query("rank == 1")
        parts.append(part.assign(dataset=dataset, model=model, batch_size=int(batch_size.removeprefix("bs"))))
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    trimmed = pd.concat([pd.read_csv(path, comment="#") for path in TABLES if path.exists()], ignore_index=True)
    found = compare(trimmed, spectra_of_kept_runs())
    found.to_csv(HERE / "fig6_beside_the_paper.csv", index=False, float_format="%.4g")
    print(found.to_string(index=False, float_format="{:.4g}".format))
