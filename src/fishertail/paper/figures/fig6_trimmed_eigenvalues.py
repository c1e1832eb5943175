"""Fig. 6: A, B and the decrease at the lowest validation loss, below the numbers that the paper prints."""

from typing import TYPE_CHECKING, Any

from fishertail.results.exhibits import Drawing, Figure, Results

if TYPE_CHECKING:
    import pandas as pd

PAPER = "the paper"


def draw(results: Results) -> Drawing:
    """In each model's figure layer: geometric means over the runs that have passed their minimum."""
    from fishertail.paper.printed import PRINTED
    from fishertail.results.drawing import table_figure

    table = _table(results)
    if table.empty:
        return table_figure(table)
    new = ~table[["dataset", "batch_size"]].duplicated()
    shown = table.assign(
        dataset=[results.title_of(name) if first else "" for name, first in zip(table["dataset"], new, strict=True)],
        batch_size=[str(size) if first else "" for size, first in zip(table["batch_size"], new, strict=True)],
    )
    shown = shown.fillna({"runs": ""})
    for column in ("A", "B", "B_resolved"):
        digits = [4 if model == PAPER else 3 for model in table["model"]]  # the paper's as it prints them
        shown[column] = [_significant(value, number) for value, number in zip(table[column], digits, strict=True)]
    for column in ("decrease_percent", "decrease_resolved_percent"):
        shown[column] = [_percent(value) for value in table[column]]
    pairs = table[["dataset", "batch_size"]].drop_duplicates().itertuples(index=False, name=None)
    remarks = [
        f"{results.title_of(dataset)}, {size}: {PRINTED[dataset, size].remark}."
        for dataset, size in pairs
        if (dataset, size) in PRINTED and PRINTED[dataset, size].remark
    ]
    if any(runs.split(" of ")[0] != runs.split(" of ")[1] for runs in table["runs"].dropna()):
        remarks.append("Runs that have not passed their lowest validation loss, or lack B there, do not count.")
    headings = {"B_resolved": "B re-solved", "decrease_resolved_percent": "its decrease (%)"}
    shown = shown.rename(columns=headings)
    numbers = ["batch_size", "A", "B", "decrease_percent", *headings.values()]
    figure, _ = table_figure(shown, numbers=numbers, rules=[i for i, first in enumerate(new) if first], notes=remarks)
    return figure, table


def _table(results: Results) -> "pd.DataFrame":
    """For each data set and batch size a row of the paper, where it prints one, and a row for each model."""
    import pandas as pd

    from fishertail.paper.printed import PRINTED

    minima = results.minima()
    columns = ["dataset", "batch_size", "model", "layer", "runs", "A", "B", "decrease_percent"]
    columns += ["B_resolved", "decrease_resolved_percent"]
    rows: list[dict[str, Any]] = []
    trimmed = results.at_minimum(results.of_layer("trimmed"))
    for dataset, size in dict.fromkeys((run["dataset"], run["batch_size"]) for run in results.runs):
        group = {"dataset": dataset, "batch_size": size}
        if printed := PRINTED.get((dataset, size)):
            values = {"A": printed.A, "B": printed.B, "decrease_percent": printed.decrease_percent}
            rows.append(group | {"model": PAPER, "layer": ""} | values)
        own = [run for run in results.runs if (run["dataset"], run["batch_size"]) == (dataset, size)]
        for model, layer in dict.fromkeys((run["model"], run["figure_layer"]) for run in own):
            seeds = [run["seed"] for run in own if run["model"] == model]
            keys = [(dataset, model, size, seed) for seed in seeds]
            passed = [key[3] for key in keys if key in minima and minima[key].passed]
            part = trimmed[(trimmed["dataset"] == dataset) & (trimmed["model"] == model)]
            part = part[(part["batch_size"] == size) & part["seed"].isin(passed)]
            row = group | {"model": model, "layer": layer, "runs": f"{len(part)} of {len(seeds)}"}
            rows.append(row | (_means(part) if len(part) else {}))
    return pd.DataFrame(rows, columns=columns)


def _means(trimmed: "pd.DataFrame") -> dict[str, float]:
    """Geometric means of A, B and B re-solved, and the decreases that they give."""
    import numpy as np

    from fishertail.statistics.trimming import decrease

    with np.errstate(divide="ignore"):  # a mean with a 0 in it is 0
        means = {name: float(np.exp(np.log(trimmed[name]).mean())) for name in ("A", "B", "B_resolved")}
    of_means = {"decrease_percent": "B", "decrease_resolved_percent": "B_resolved"}
    return means | {name: decrease(means["A"], means[left]) for name, left in of_means.items()}


def _significant(value: float, digits: int) -> str:
    """So many significant digits, zeros at the end included but for a round power; empty where there is no value."""
    if value != value:
        return ""
    if 0 < value < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.{digits}g}".rstrip(".")


def _percent(value: float) -> str:
    """A decrease with one decimal, or as many as it takes to tell it from 100 %; empty where there is no value."""
    import math

    if value != value:
        return ""
    left = 100 - value
    decimals = max(1, -math.floor(math.log10(left))) if left > 0 else 1
    return f"{value:.{min(decimals, 10)}f}"


FIGURE = Figure(
    name="fig6_trimmed_eigenvalues",
    title="Fig. 6: lambda_1 with and without the outliers",
    caption=(
        "The largest eigenvalue over all training samples (A), without the 10 % of largest |a_x| but with the "
        "eigenvector kept (B), and re-solved without them, at the epoch of lowest validation loss: geometric means "
        "over the runs that have passed it, and how many these are of all. The rows above ours are the numbers that "
        "the paper prints; it names neither model nor layer, and MNIST agrees with fc, CIFAR-10 with conv. Bears on "
        "claim 4: a few samples carry the eigenvalue."
    ),
    needs=("trimmed", "metrics"),
    draw=draw,
)
