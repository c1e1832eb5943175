"""Would another choice change a verdict? python docs/reproduction/variations.py

The criteria fix a layer for each network, the share of outliers that counts as arisen (claim 5), and the share of the
data that a subset holds (claim 6). Here each is varied by itself, with all else as in criteria.md, and the claims are
judged anew on the kept runs. No verdict is taken from this: the criteria were fixed beforehand, and these were not.

`variations.csv` has the columns of the table `claim_effects` behind what is varied and its value, for the networks that
vote; docs/generate.py shows it on the pages of the claims.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from fishertail.measurements.collect import read, run_tables
from fishertail.paper.claims import claim5, claim6, verdicts
from fishertail.paper.printed import PRINTED
from fishertail.results import archive
from fishertail.results.exhibits import Results

HERE = Path(__file__).parent
SETTINGS = {
    "measurements.ax_statistics.near_zero": 0.1,
    "measurements.trimmed_eigenvalues.fraction": 0.1,
    "measurements.outliers.reading": "distance",
}
TABLES = (
    "metrics", "spectrum", "ax_statistics", "outliers", "trimmed", "data_sensitivity", "eigenvalue_count",
    "subset_deviations",
)  # fmt: skip
BY_LAYER = (1, 2, 3, 4)  # claims about a layer, whose tables have all layers
LAYERS = {"fc": "fc4", "conv": "fc2"}  # that the criteria name
SHARES_OF_OUTLIERS = (0.001, 0.01, 0.05, 0.1)
SHARES_OF_THE_DATA = (0.01, 0.02, 0.05, 0.1)


def kept_runs() -> Results:
    """The tables of the kept runs that vote."""
    runs: list[dict[str, Any]] = []
    files: dict[str, list[str]] = {name: [] for name in TABLES}
    for (dataset, batch_size), printed in PRINTED.items():
        for place in sorted((HERE / "runs" / f"{dataset}-{printed.model}" / f"bs{batch_size}").glob("seed*")):
            seed = int(place.name.removeprefix("seed"))
            layer = LAYERS[printed.model]
            runs.append(
                {"dataset": dataset, "model": printed.model, "batch_size": batch_size, "seed": seed}
                | {"figure_layer": layer}
            )
            for name in TABLES:
                files[name] += archive.files(place, run_tables()[name].file)
    return Results(runs, read(files, runs), SETTINGS)


def judged(results: Results, claim: int) -> pd.DataFrame:
    """The effects of a claim on the networks that vote."""
    effects = verdicts.effects_table(results)
    return effects[(effects["claim"] == claim) & effects["votes"] & effects["decides"]]


def by_layer(results: Results) -> Iterator[pd.DataFrame]:
    """Each layer in place of the one that the criteria name, network by network."""
    layers = results["spectrum"].groupby("model")["layer"].unique()
    for model, names in layers.items():
        for layer in names:
            runs = [dict(run) | ({"figure_layer": layer} if run["model"] == model else {}) for run in results.runs]
            effects = verdicts.effects_table(replace(results, runs=runs))
            shown = effects["claim"].isin(BY_LAYER) & effects["votes"] & effects["decides"]
            yield _varied(effects[shown & (effects["model"] == model)], "layer", layer)


def _varied(effects: pd.DataFrame, what: str, value: str | float, named: tuple[str, str] = ("", "")) -> pd.DataFrame:
    """With what is varied and its value in two more columns.

    Args:
        named: what a quantity calls the share that is varied, and what it is called here.
    """
    text = value if isinstance(value, str) else f"{100 * value:g} %"
    return effects.assign(varied=what, value=text, quantity=effects["quantity"].str.replace(*named, regex=False))


def variations(results: Results) -> pd.DataFrame:
    """All of them, a row for each quantity and network."""
    parts = list(by_layer(results))
    for share in SHARES_OF_OUTLIERS:
        with patch.object(claim5, "SHARE", share):
            parts.append(_varied(judged(results, 5), "share of outliers", share, named=("1%", "that share")))
    for share in SHARES_OF_THE_DATA:
        with patch.object(claim6, "TENTH", share):
            parts.append(
                _varied(judged(results, 6), "share of the data", share, named=("random tenth", "random share"))
            )
    columns = ["claim", "varied", "value", *(name for name in verdicts.COLUMNS if name not in ("claim", "votes"))]
    return pd.concat(parts, ignore_index=True)[columns]


if __name__ == "__main__":
    variations(kept_runs()).to_csv(HERE / "variations.csv", index=False)
