"""Which layer and training length give the printed numbers of Fig. 6? python docs/reproduction/fig6.py [FOLDER ...]

The paper prints A and B of one layer for each data set and batch size, and neither the layer nor how long it was
trained. A candidate is a layer (or the network), a rule for the length, a reading of B and a variant of the printed
numbers. It must give all four numbers of a data set at one layer and length; for CIFAR-10, the two of each batch size
are compared by themselves, too. By how much it misses is the factor exp(rms(log(ours / printed))) over these numbers,
ours being the geometric mean over the seeds; beside it stands the largest single factor.

Lengths are every checkpoint that is measured at both batch sizes: at equal epochs, at equal SGD steps (the nearest
checkpoint within 2 %), and each run's own E* and 2 E*, if it has passed E*. Readings of B: V_1 kept; re-solved; a
twentieth left out at each signed end of a_x, V_1 kept. The printed B = 1e-6 contradicts the printed decrease, so that
B = A (1 - 99.97 %) is a variant.

With so many candidates some come near by chance. As a scale for that, as many candidates are drawn at random, each of
their numbers independent and log-uniform between the lowest and the highest of ours; the median of the best factor
among these stands in the summary. It is no test: ours are not independent, neither from checkpoint to checkpoint nor A
from B, so that they are fewer than they look, and the range is taken from the same numbers.

The summary names only candidates of as many seeds as any has: a length at which one seed alone has B says less. With
two batch sizes, the one of fewer seeds counts.

Each FOLDER has runs below runs/, as results/ and this folder do; by default this one. All candidates go to
fig6_candidates.csv, the summary is printed as Markdown.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fishertail.measurements.collect import collect, run_tables
from fishertail.paper.printed import PRINTED
from fishertail.results.run import Run
from fishertail.results.schema import RUN
from fishertail.statistics.minimum import lowest_validation_loss

HERE = Path(__file__).parent
COMPARED = (  # data sets, and the batch sizes whose numbers a candidate must give
    ("mnist", (16, 256)),
    ("cifar10", (16, 256)),
    ("cifar10", (16,)),
    ("cifar10", (256,)),
)
READINGS = {  # of B: the table and the column
    "V_1 kept": ("trimmed", "B"),
    "re-solved": ("trimmed", "B_resolved"),
    "both ends, V_1 kept": ("trimmed_both_ends", "B_both_ends"),
}
AS_PRINTED, BY_PERCENT = "as printed", "B of 16 by 99.97 %"
WITHIN = 0.02  # relative distance of the steps that count as equal
CANDIDATE = ["dataset", "model", "layer", "rule", "length", "reading"]
NUMBERS = ["dataset", "batch_sizes"]  # which numbers a candidate is compared with
DRAWS = 400_000  # random candidates, from which the best of fewer is estimated


def runs_below(folders: Iterable[Path]) -> dict[Run, Path]:
    """The runs of the networks that Fig. 6 is of, by our inference, and their folders: the first one that has B."""
    found: dict[Run, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("runs/*-*/bs*/seed*")):
            dataset, model = path.parts[-3].split("-", 1)
            run = Run(dataset, model, int(path.parts[-2].removeprefix("bs")), int(path.parts[-1].removeprefix("seed")))
            printed = PRINTED.get((dataset, run.batch_size))
            if printed is not None and printed.model == model and any(path.glob("*/trimmed.csv")):
                found.setdefault(run, path)
    return found


def values(runs: dict[Run, Path]) -> pd.DataFrame:
    """A and B of each run, checkpoint, layer and reading: columns of RUN, step, epoch, layer, reading, A, B."""
    known = [dict(zip(RUN, (run.dataset, run.model, run.batch_size, run.seed), strict=True)) for run in runs]
    parts = []
    for name in ("trimmed", "trimmed_both_ends"):
        table = run_tables()[name]
        folders = [each for place in runs.values() for each in (place, *sorted(place.iterdir())) if each.is_dir()]
        rows = collect(table, [str(each / table.file) for each in folders if (each / table.file).is_file()], known)
        for reading, (of_table, column) in READINGS.items():
            if of_table == name:
                given = rows[[*RUN, "step", "epoch", "layer", "A", column]].rename(columns={column: "B"})
                parts.append(given.assign(reading=reading))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def minima(runs: dict[Run, Path]) -> dict[Run, int]:
    """The step of E* of the runs that have ended and passed it."""
    paths = {run: str(place / "metrics.csv") for run, place in runs.items() if (place / "metrics.csv").is_file()}
    found = {}
    for run, path in paths.items():
        metrics = collect(run_tables()["metrics"], [path], [dict(zip(RUN, _key(run), strict=True))])
        lowest = lowest_validation_loss(metrics)
        if lowest.passed:
            found[run] = lowest.step
    return found


def _run(key: Any) -> Run:
    return Run(*key)


def _key(run: Run) -> tuple[str, str, int, int]:
    return run.dataset, run.model, run.batch_size, run.seed


def picks(measured: pd.DataFrame, lowest: dict[Run, int], sizes: Sequence[int]) -> pd.DataFrame:
    """Which checkpoint each rule of length takes of each run of a data set: rule, length, step and the columns of RUN.

    Args:
        measured: the rows of `values` of one data set and of these batch sizes.
        lowest: see `minima`.
        sizes: the batch sizes whose numbers are compared; with one alone, equal steps are equal epochs.
    """
    rows: list[tuple[Any, ...]] = []
    checkpoints = {_run(key): part.drop_duplicates("step") for key, part in measured.groupby(RUN, sort=False)}
    wanted = sorted(
        {step for run, part in checkpoints.items() if run.batch_size == min(sizes) for step in part["step"]}
    )
    for run, part in checkpoints.items():
        steps = part["step"].to_numpy()
        rows += [("epoch", epoch, step, *_key(run)) for step, epoch in zip(steps, part["epoch"].round(9), strict=True)]
        for step in wanted if len(sizes) > 1 else ():
            nearest = steps[np.abs(steps - step).argmin()]
            if step > 0 and abs(nearest - step) <= WITHIN * step:  # step 0 is epoch 0
                rows.append(("step", step, nearest, *_key(run)))
        for rule, times in (("own E*", 1), ("own 2 E*", 2)):
            if run in lowest and times * lowest[run] in steps:
                rows.append((rule, np.nan, times * lowest[run], *_key(run)))
    return pd.DataFrame(rows, columns=["rule", "length", "step", *RUN])


def ours(measured: pd.DataFrame, lowest: dict[Run, int], sizes: Sequence[int]) -> pd.DataFrame:
    """The numbers of each candidate of a data set: columns A_16, B_16, ..., and `seeds`, the fewest of a batch size.

    Those that are not measured at every batch size are left out, and rules that take the same checkpoints count once.
    """
    rows = picks(measured, lowest, sizes).merge(measured, on=[*RUN, "step"])
    for name in "AB":
        with np.errstate(divide="ignore"):
            rows[name] = np.log(rows[name].to_numpy())
    rows["length"] = rows["length"].fillna(-1.0)  # a group of NaN would be lost
    means = rows.groupby([*CANDIDATE, "batch_size"]).agg(A=("A", "mean"), B=("B", "mean"), seeds=("seed", "nunique"))
    of_size = [means.xs(size, level="batch_size").add_suffix(f"_{size}") for size in sizes]
    found = pd.concat(of_size, axis=1, join="inner")
    numbers = [f"{name}_{size}" for size in sizes for name in "AB"]
    found[numbers] = np.exp(found[numbers].to_numpy())
    found["seeds"] = found[[f"seeds_{size}" for size in sizes]].min(axis=1)
    found = found[["seeds", *numbers]].reset_index()
    found["length"] = found["length"].where(found["length"] >= 0)
    return found.drop_duplicates(["layer", "reading", *numbers], ignore_index=True)


def variants(dataset: str, sizes: Sequence[int]) -> Iterator[tuple[str, dict[str, float]]]:
    """The printed numbers of a data set, by column, in each variant."""
    printed = {f"{n}_{size}": getattr(PRINTED[dataset, size], n) for size in sizes for n in "AB"}
    yield AS_PRINTED, printed
    if dataset == "mnist":
        small = PRINTED[dataset, 16]
        yield BY_PERCENT, printed | {"B_16": small.A * (1 - small.decrease_percent / 100)}


def joined(sizes: Sequence[int]) -> str:
    """Batch sizes, as they are named in the table."""
    return " and ".join(map(str, sizes))


def factors(numbers: pd.DataFrame, printed: dict[str, float]) -> pd.DataFrame:
    """By how much numbers miss the printed ones: `factor`, the root mean square, and `largest_factor`."""
    with np.errstate(divide="ignore"):
        logs = np.abs(np.log(numbers[list(printed)].to_numpy() / np.array(list(printed.values()))))
    means = np.sqrt(np.square(logs).mean(axis=1))
    return pd.DataFrame({"factor": np.exp(means), "largest_factor": np.exp(logs.max(axis=1))}, index=numbers.index)


def candidates(measured: pd.DataFrame, lowest: dict[Run, int]) -> pd.DataFrame:
    """All candidates, by the numbers that they are compared with and factor."""
    parts = []
    for dataset, sizes in COMPARED:
        numbers = measured[(measured["dataset"] == dataset) & measured["batch_size"].isin(sizes)]
        if set(sizes) - set(numbers["batch_size"]):
            continue
        found = ours(numbers, lowest, sizes).assign(batch_sizes=joined(sizes))
        for name, printed in variants(dataset, sizes):
            parts.append(found.assign(printed=name, **factors(found, printed)))
    first = [*NUMBERS, *CANDIDATE[1:], "printed", "seeds", "factor", "largest_factor"]
    if not parts:
        return pd.DataFrame(columns=first)
    table = pd.concat(parts, ignore_index=True).sort_values([*NUMBERS, "factor"], kind="stable", ignore_index=True)
    return table[[*first, *(name for name in table if name not in first)]]


def best_by_chance(numbers: pd.DataFrame, printed: dict[str, float], tried: int) -> float:
    """The median of the least factor among `tried` random candidates, each number log-uniform in the range of ours."""
    known = numbers[list(printed)].replace([0, np.inf], np.nan)
    lows, highs = np.log(known.min()).to_numpy(), np.log(known.max()).to_numpy()
    drawn = np.exp(np.random.default_rng(0).uniform(lows, highs, (DRAWS, len(printed))))
    found = factors(pd.DataFrame(drawn, columns=list(printed)), printed)["factor"]
    return float(found.quantile(1 - 0.5 ** (1 / tried)))


def summary(table: pd.DataFrame) -> str:
    """How many candidates were tried, and the best of each reading among those of all seeds, in Markdown."""
    if table.empty:
        return "No candidate: B is not measured at a length that the batch sizes of a data set share."
    lines = [f"{len(table)} candidates were tried: {_counted(table)}.", ""]
    lines += ["| data set | batch size | B | printed | tried | best | seeds | factor | largest | by chance |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    sizes_of = {(dataset, joined(sizes)): sizes for dataset, sizes in COMPARED}
    all_seeds = table["seeds"] == table.groupby(NUMBERS)["seeds"].transform("max")
    for key, part in table[all_seeds].groupby([*NUMBERS, "reading", "printed"], sort=False):
        dataset, sizes, reading, name = map(str, key)
        best = part.iloc[0]
        printed = dict(variants(dataset, sizes_of[dataset, sizes]))[name]
        chance = best_by_chance(part, printed, len(part)) if np.isfinite(best["factor"]) else np.nan
        cells = [dataset, sizes, reading, name, f"{len(part)}", _named(best), f"{best['seeds']:.0f}"]
        cells += [f"{number:.3g}" for number in (best["factor"], best["largest_factor"], chance)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counted(table: pd.DataFrame) -> str:
    """What there is to choose from, by the numbers."""
    said = []
    for (dataset, sizes), part in table.groupby(NUMBERS):
        numbers = [
            len(part.drop_duplicates(list(of))) for of in (("layer",), ("rule", "length"), ("reading",), ("printed",))
        ]
        kinds = ("layers (the network among them)", "lengths", "readings of B", "variants of the printed numbers")
        said.append(f"{dataset} at {sizes} {', '.join(f'{n} {kind}' for n, kind in zip(numbers, kinds, strict=True))}")
    return "; ".join(said)


def _named(best: "pd.Series[Any]") -> str:
    length = f" {best['length']:g}" if best["rule"] in ("epoch", "step") else ""
    return f"{best['layer']}, {best['rule']}{length}"


def main() -> None:
    """Write the table and print the summary."""
    parser = argparse.ArgumentParser(description="Candidates for what Fig. 6 shows, by how much they miss its numbers.")
    parser.add_argument("folders", nargs="*", type=Path, default=[HERE], help="with runs below runs/")
    parser.add_argument("--output", type=Path, default=HERE / "fig6_candidates.csv")
    options = parser.parse_args()
    runs = runs_below(options.folders)
    if not runs:
        parser.error(f"no run of MNIST/fc or CIFAR-10/conv below {', '.join(map(str, options.folders))}")
    found = candidates(values(runs), minima(runs))
    written = found.assign(length=found["length"].map("{:.10g}".format, na_action="ignore"))  # a key, in full
    written.to_csv(options.output, index=False, float_format="%.4g")
    print(summary(found))


if __name__ == "__main__":
    main()
