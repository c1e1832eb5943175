"""What the extensions answer, as a table and a figure: python docs/reproduction/extensions.py NAME [--results FOLDER]

NAME is that of a file in extensions/, whose finished runs are read. The table and the figure are written to
docs/reproduction/extensions/ (or to the folder of --to), as NAME.csv and NAME.svg, and what the figure shows as
NAME_curves.csv.

`rate_over_batch_size` has a row for each pair of runs of different batch size that have an equal ratio of rate and
batch size, or an equal rate, on each of two clocks: the step, and the epoch. Where SGD is near a diffusion, its time is
rate x steps, which passes alike at equal epochs where the ratio is equal, and at equal steps where the rate is. The
others have a row for each run: what holds at E*, the epoch of lowest validation loss. `larger_rate` also says how far
lambda_1 is from that of the paper's rate at equal rate x steps, and `mixed_precision` how far it is from that of the
same seed in float32 at equal steps, and where 95 % of further seeds in float32 are expected (criteria.md); the runs
that they are compared with are those kept in this folder.

Run it in the root of the repository.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from fishertail.data.source import built_in
from fishertail.errors import FishertailError
from fishertail.grid import checks
from fishertail.grid.config import Config
from fishertail.measurements import collect
from fishertail.paper.claims.judging import SCALES, Spread
from fishertail.results import archive, drawing, provenance, storage
from fishertail.results.exhibits import Results
from fishertail.results.run import LANDMARKS
from fishertail.results.schema import RUN
from fishertail.training.precision import DEFAULT_PRECISION

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
NEEDED = ("metrics", "spectrum", "ax_statistics", "trimmed", "outliers")
ALSO_NEEDED = {"larger_rate": ("hessian",)}
# made from all checkpoints of a run, or at its landmarks
LAST = ("metrics.csv", "ax_statistics.csv", "outliers.csv", f"{LANDMARKS}/trimmed.csv")
POINTS = 200  # of the clock at which two runs are compared
CLOCKS = ("step", "epoch")
KEPT = "conv"  # the network of the kept runs with which others are compared: at the paper's rate, or in float32
SEEDS = {"mixed_precision": [0, 1, 2], "larger_rate": [0]}  # of these runs
CHECKED = {"lambda_1": "ratio", "largest": "ratio", "near_zero_share": "share", "decrease": "share"}  # and their scales
TIME = "rate x steps"
NETWORK = ["model", "batch_size"]


class Answer(NamedTuple):
    """What an extension says: a table, a figure, and what the figure's lines show, as a table too."""

    table: pd.DataFrame
    figure: Figure
    curves: pd.DataFrame


# ---- the finished runs -----------------------------------------------------------------------------------------------


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with an overlay, as Snakemake lays it over: mappings are merged, all else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = laid_over(merged[key], value) if both else value
    return merged


def configuration(name: str, results: str | None = None, **changes: Any) -> Config:
    """That of an extension.

    Args:
        name: of its file in extensions/, without the suffix.
        results: the folder of its results, if it is not the one that the extension names.
        changes: keys of the configuration that are replaced.
    """
    files = (ROOT / "config.yaml", ROOT / "extensions" / f"{name}.yaml")
    raw = laid_over(*(yaml.safe_load(path.read_text()) for path in files)) | changes
    return checks.load(laid_over(raw, {"pathvars": {"results": results}} if results else {}), check_sources=False)


def finished(config: Config, kept: Config | None = None, needed: Sequence[str] = NEEDED) -> tuple[Results, list[str]]:
    """The tables of the runs that are trained and measured as a whole, and their files.

    They may have been trained for other numbers of epochs than the configuration says.

    Args:
        kept: of runs that these are compared with.
        needed: the tables.

    Raises:
        SystemExit: there is no such run.
    """
    folder = Path(config.pathvars["results"])
    runs: list[dict[str, Any]] = []
    files: dict[str, list[str]] = {name: [] for name in needed}
    configs = [config] if kept is None else [config, kept]
    for own, run in [(each, run) for each in configs for run in each.runs]:
        place = Path(own.pathvars["results"]) / "runs" / run.path
        if not all(archive.has(place, name) for name in LAST):
            print(f"{run.path}: not finished, left out")
            continue
        runs.append(asdict(run) | {"figure_layer": own.architecture(run.model).figure_layer})
        for name in needed:
            files[name] += archive.files(place, collect.run_tables()[name].file)
    if not any(run["model"] in config.models for run in runs):
        raise SystemExit(f"{folder}: finished runs of this extension expected, found none")
    titles = {name: known.title for name, known in built_in().items()}
    paths = [path for each in files.values() for path in each]
    return Results(runs, collect.read(files, runs), {}, titles=titles), paths


def largest_eigenvalues(results: Results) -> pd.DataFrame:
    """lambda_1 of the figure layer at every checkpoint: the columns of a run, step, epoch and eigenvalue."""
    return results.of_layer("spectrum").query("rank == 1")[[*RUN, *CLOCKS, "eigenvalue"]]


# ---- rate over batch size --------------------------------------------------------------------------------------------


def points_of_all(runs: Sequence[pd.DataFrame], clock: str) -> NDArray[np.float64]:
    """Points of a clock, uniform in its logarithm, from the first checkpoint after 0 that all runs have to the last."""
    times = [run.loc[run[clock] > 0, clock] for run in runs]
    return np.geomspace(max(each.min() for each in times), min(each.max() for each in times), POINTS)


def log_ratio(one: pd.DataFrame, other: pd.DataFrame, clock: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(lambda_1 of the other run / that of the one) at points of a clock.

    Between checkpoints the logarithm of lambda_1 is linear in that of the clock.

    Args:
        one, other: step, epoch and eigenvalue of a run.
        clock: a column of both.
        points: see `points_of_all`.
    """
    logs: list[NDArray[np.float64]] = []
    for run in (one, other):
        rows = np.log(run.loc[run[clock] > 0, [clock, "eigenvalue"]].astype(float).sort_values(clock))
        logs.append(np.interp(np.log(points), rows[clock], rows["eigenvalue"]))
    return logs[1] - logs[0]


class Trained(NamedTuple):
    """A network of the grid."""

    model: str
    batch_size: int
    rate: float


def pairs(networks: Iterable[Trained]) -> Iterator[tuple[str, Trained, Trained]]:
    """Networks of different batch size, the smaller first, with equal ratio of rate and batch size, or equal rate."""
    for one, other in combinations(sorted(networks, key=lambda network: network.batch_size), 2):
        if one.batch_size == other.batch_size:
            continue
        if np.isclose(one.rate / one.batch_size, other.rate / other.batch_size):
            yield "ratio", one, other
        elif np.isclose(one.rate, other.rate):
            yield "rate", one, other


def pairs_compared(curves: pd.DataFrame, rates: Mapping[str, float]) -> pd.DataFrame:
    """One row for each pair and clock, from the mean over the seeds that both have; and one for all pairs of a kind.

    Args:
        curves: see `largest_eigenvalues`.
        rates: learning rates by model.
    """
    known = curves[NETWORK].drop_duplicates().itertuples(index=False, name=None)
    networks = [Trained(str(model), int(batch_size), rates[str(model)]) for model, batch_size in known]
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    rows: list[dict[str, Any]] = []
    for kind, one, other in pairs(networks):
        by_seed = [_by_seed(curves, each) for each in (one, other)]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
        for clock in CLOCKS if seeds else ():
            of_seeds = [(by_seed[0][seed], by_seed[1][seed]) for seed in seeds]
            points = points_of_all([run for both in of_seeds for run in both], clock)
            logs = np.mean([log_ratio(*both, clock, points) for both in of_seeds], axis=0)
            found.setdefault((kind, clock), []).append(logs)
            row: dict[str, Any] = {"equal": kind, "clock": clock}
            row["pair"] = ", ".join(f"{each.rate:g} at {each.batch_size}" for each in (one, other))
            row |= _factors(logs)
            rows.append(row | {"largest_at": float(points[np.abs(logs).argmax()]), "seeds": len(seeds)})
    rows += [
        {"equal": kind, "clock": clock, "pair": f"all {len(logs)}"} | _factors(np.concatenate(logs))
        for (kind, clock), logs in found.items()
    ]
    columns = ["equal", "clock", "pair", *_factors(np.zeros(1)), "largest_at", "seeds"]
    return pd.DataFrame(rows, columns=columns).astype({"seeds": "Int64"})


def _by_seed(curves: pd.DataFrame, network: Trained) -> dict[int, pd.DataFrame]:
    own = curves[(curves["model"] == network.model) & (curves["batch_size"] == network.batch_size)]
    return {int(str(seed)): part for seed, part in own.groupby("seed")}


def _factors(logs: NDArray[np.float64]) -> dict[str, float]:
    """Of lambda_1 at the larger batch size over that at the smaller: on average, typically either way, and at most."""
    return {
        "geometric_mean": float(np.exp(logs.mean())),
        "typical_factor": float(np.exp(np.abs(logs).mean())),
        "largest_factor": float(np.exp(np.abs(logs).max())),
    }


def rate_over_batch_size(results: Results, config: Config) -> Answer:
    """How far lambda_1 is from equal where the ratio of rate and batch size is, and where the rate is."""
    curves = largest_eigenvalues(results)
    rates = {model: config.architecture(model).learning_rate for model in config.models}
    compared = _compared(curves.assign(rate=curves["model"].map(rates)))
    figure, grid = plt.subplots(2, len(compared), figsize=(2.8 * len(compared), 4.6), squeeze=False, sharey=True)
    shown: list[pd.DataFrame] = []
    for axes_of_clock, clock in zip(grid, CLOCKS, strict=True):
        for axes, (title, rows) in zip(axes_of_clock, compared.items(), strict=True):
            for batch_size, of_size in drawing.by_batch_size(rows):
                colour, line = drawing.colour_of(batch_size)
                panel = Panel("lambda_1", of_size, "eigenvalue")
                shown.append(_band(axes, panel, clock, f"batch size {batch_size}", color=colour, linestyle=line))
            _set_time(axes, curves, clock)
            axes.set(yscale="log", title=title)
    for axes in grid[:, 0]:
        axes.set_ylabel(r"$\lambda_1$")
    handles, labels = drawing.legend(grid.flat)
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return Answer(pairs_compared(curves, rates), figure, pd.concat(shown, ignore_index=True).drop_duplicates())


def _compared(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Curves of an equal ratio, and then of an equal rate where there are two batch sizes, by the title of a panel."""
    found: dict[str, pd.DataFrame] = {}
    for _, rows in curves.groupby((curves["rate"] / curves["batch_size"]).round(12)):
        largest = rows.sort_values("batch_size").iloc[-1]
        found[f"rate / size = {largest['rate']:g} / {largest['batch_size']}"] = rows
    for rate, rows in curves.groupby("rate"):
        if rows["batch_size"].nunique() > 1:
            found[f"rate = {rate:g}"] = rows
    return found


class Panel(NamedTuple):
    """A quantity over training."""

    label: str
    table: pd.DataFrame
    column: str
    scale: str = "linear"


def _set_time(axes: Any, table: pd.DataFrame, clock: str) -> None:
    """A logarithmic axis of time that begins at 0."""
    first = table.loc[table[clock] > 0, clock].min()
    axes.set_xscale("symlog", linthresh=10 ** np.ceil(np.log10(first)), linscale=0.4)  # ends at a tick
    axes.set(xlim=(0, None), xlabel=clock)


def _band(axes: Any, panel: Panel, clock: str, label: str, **style: Any) -> pd.DataFrame:
    """Draw the mean over the seeds of one network, and a band from lowest to highest; return what is drawn."""
    keys = ["dataset", *NETWORK, clock]
    means: pd.DataFrame = drawing.bands(panel.table, keys, panel.column).sort_values(clock)
    means = means[means["seeds"] == means["seeds"].max()]  # a landmark of one run is not to be compared with means
    marker = "s" if len(means) < drawing.FEW else ""
    axes.plot(means[clock], means["mean"], label=label, marker=marker, markersize=3, **style)
    axes.fill_between(means[clock], means["lowest"], means["highest"], color=style["color"], alpha=0.2, lw=0)
    means = means.rename(columns={clock: "time"})
    means.insert(0, "quantity", panel.label)
    means.insert(len(keys), "clock", clock)
    return means


# ---- what holds at the lowest validation loss ------------------------------------------------------------------------


def at_minimum(results: Results, config: Config, classes: Mapping[str, int]) -> pd.DataFrame:
    """One row for each run: lambda_1 of its figure layer, share near 0, A, B and the decrease, outliers, at E*.

    The decrease stands there before training, too.

    Args:
        classes: how many a data set has, by its name.
    """

    def of(name: str, columns: Sequence[str], layer: str | None = None) -> pd.DataFrame:
        rows = results[name] if name == "metrics" else results.of_layer(name, layer)
        return results.at_minimum(rows)[[*RUN, *columns]]

    table = pd.DataFrame(results.runs)[[*RUN, "figure_layer"]]
    table["classes"] = table["dataset"].map(classes)
    table["loss"] = [config.architecture(model).loss for model in table["model"]]
    minima = results.minima()
    for column in ("epoch", "status"):
        table[f"minimum_{column}"] = [
            getattr(minima[key], column) for key in table[RUN].itertuples(index=False, name=None)
        ]
    table = table.merge(of("metrics", ["train_accuracy", "validation_accuracy"]), on=RUN)
    spectrum = results.at_minimum(largest_eigenvalues(results))[[*RUN, "eigenvalue"]]
    table = table.merge(spectrum.rename(columns={"eigenvalue": "lambda_1"}), on=RUN)
    table = table.merge(of("ax_statistics", ["samples", "near_zero_share", "largest"]), on=RUN)
    decreases = ["decrease_percent", "decrease_resolved_percent"]
    table = table.merge(of("trimmed", ["A", "B", "B_resolved", *decreases]), on=RUN)
    before = results.of_layer("trimmed").query("step == 0")[[*RUN, *decreases]]
    table = table.merge(before, on=RUN, how="left", suffixes=("", "_before"))
    outliers = of("outliers", ["outliers_distance", "samples"], "network")
    outliers["outlier_share"] = outliers["outliers_distance"] / outliers["samples"]
    return table.merge(outliers[[*RUN, "outlier_share"]], on=RUN)


def of_runs(results: Results, config: Config) -> Answer:
    """What holds at E* of each run, and lambda_1, the share near 0 and that of outliers over training."""
    outliers = results.of_layer("outliers", "network")
    panels = (
        Panel("lambda_1", largest_eigenvalues(results), "eigenvalue", "log"),
        Panel("share of the samples near 0", results.of_layer("ax_statistics"), "near_zero_share"),
        Panel(
            "share of outliers",
            outliers.assign(share=outliers["outliers_distance"] / outliers["samples"]),
            "share",
        ),
    )
    return Answer(at_minimum(results, config, _classes(results, config)), *_drawn(results, panels, "step"))


def _drawn(results: Results, panels: Sequence[Panel], clock: str) -> tuple[Figure, pd.DataFrame]:
    """An axes for each panel, with a line for each network, and what they show."""
    figure, row = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.0))
    networks = dict.fromkeys((run["dataset"], run["model"], run["batch_size"]) for run in results.runs)
    colours = dict(zip(networks, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    shown: list[pd.DataFrame] = []
    for axes, panel in zip(row, panels, strict=True):
        for (dataset, model, batch_size), part in panel.table.groupby(["dataset", *NETWORK], sort=False):
            colour = colours[dataset, model, batch_size]  # the same where another panel lacks a network
            name = f"{results.title_of(str(dataset))}, {model}, batch size {batch_size}"
            shown.append(_band(axes, panel._replace(table=part), clock, name, color=colour))
        _set_time(axes, panel.table, clock)
        axes.set(yscale=panel.scale, ylabel=panel.label)
    handles, labels = drawing.legend(row)
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return figure, pd.concat(shown, ignore_index=True)


def _classes(results: Results, config: Config) -> dict[str, int]:
    """How many each data set has."""
    folder = Path(config.pathvars["results"]) / "datasets"
    names = dict.fromkeys(str(run["dataset"]) for run in results.runs)
    return {name: int(storage.read_provenance(folder / f"{name}.safetensors")["classes"]) for name in names}


# ---- a larger rate, and mixed precision ------------------------------------------------------------------------------


def larger_rate(results: Results, config: Config) -> Answer:
    """What holds at E* of each run, and how far its lambda_1 is from that at the paper's rate at equal rate x steps."""
    rates = {model: config.architecture(model).learning_rate for model in [KEPT, *config.models]}

    def timed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{TIME: table["model"].map(rates) * table["step"]})

    curves, hessian = timed(largest_eigenvalues(results)), timed(results.of_layer("hessian", "network"))
    hessian = hessian[hessian["rank"] == 1]
    table = at_minimum(results, config, _classes(results, config))
    table.insert(len(RUN), "rate", table["model"].map(rates))
    largest = hessian.groupby(RUN)["rate_times_eigenvalue"].max().rename("largest_rate_times_sharpness")
    table = table.merge(largest.reset_index(), on=RUN, how="left")
    panels = (
        Panel("lambda_1", curves, "eigenvalue", "log"),
        Panel("validation loss", timed(results["metrics"]), "validation_loss"),
        Panel("rate x sharpness", hessian, "rate_times_eigenvalue", "log"),
    )
    figure, shown = _drawn(results, panels, TIME)
    figure.axes[-1].axhline(2, color="0.5", linestyle=":", lw=1)  # where gradient descent on a quadratic diverges
    return Answer(table.merge(beside(curves, KEPT, TIME), on=RUN, how="left"), figure, shown)


def mixed_precision(results: Results, config: Config) -> Answer:
    """What holds at E* of each run, whether a seed in float32 could be so, and lambda_1 beside that of its own seed."""
    table, figure, curves = of_runs(results, config)
    runs = {run.model: config.precision_of(run) for run in config.runs}
    table.insert(len(RUN), "precision", table["model"].map(runs).fillna(DEFAULT_PRECISION))
    table = table.merge(beside(largest_eigenvalues(results), KEPT, "step"), on=RUN, how="left")
    return Answer(with_expected(table.assign(decrease=table["decrease_percent"] / 100)), figure, curves)


def with_expected(table: pd.DataFrame) -> pd.DataFrame:
    """A table of runs with the limits between which 95 % of further seeds in float32 are expected.

    Args:
        table: precision, minimum_status, samples, and the columns of `CHECKED`. Shares are taken no nearer to 0 and 1
            than half a sample.

    Returns:
        with columns `<column>_low` and `<column>_high` of each, and as_expected: whether a run that is not in float32
        keeps to them all. The limits are NaN as long as fewer than three seeds in float32 have passed E*, and
        as_expected is missing then, as it is for a run that has not.
    """
    passed = table["minimum_status"] == "passed"
    float32 = table["precision"] == DEFAULT_PRECISION
    inside, known = pd.Series(True, index=table.index), passed & ~float32
    for column, scale in CHECKED.items():
        values = table[column]
        if scale == "share":
            values = values.clip(0.5 / table["samples"], 1 - 0.5 / table["samples"])
        low, high = expected(values[float32 & passed].to_numpy(float), scale)
        table = table.assign(**{f"{column}_low": low, f"{column}_high": high})
        inside &= values.between(low, high)
        known &= np.isfinite(low)
    return table.assign(as_expected=inside.astype("boolean").mask(~known))


def expected(values: NDArray[np.float64], scale: str) -> tuple[float, float]:
    """The 95 % prediction interval of one more seed, mean +- t(0.975, n - 1) s sqrt(1 + 1/n).

    Args:
        values: (n,) of the seeds; as long as n < 3 the limits are NaN, as no verdict is given then.
        scale: on which it is taken, of `SCALES`.
    """
    on_scale = np.asarray(SCALES[scale].forward(values))
    spread = Spread.pooled([on_scale])
    if not spread.enough:
        return np.nan, np.nan
    half = stats.t.ppf(0.975, spread.degrees) * spread.deviation * np.sqrt(1 + 1 / len(values))
    middle = on_scale.mean()
    low, high = SCALES[scale].back(np.array([middle - half, middle + half]))
    return float(low), float(high)


def beside(curves: pd.DataFrame, reference: str, clock: str) -> pd.DataFrame:
    """By which factors lambda_1 differs from that of a reference at equal times, as far as both have it.

    Args:
        curves: see `largest_eigenvalues`.
        reference: a model.
        clock: the column of `curves` that has the times.

    Returns:
        one row for each run that the reference has with the same data set, batch size and seed: the factors of
        `_factors`, and compared_until, the time up to which both were measured.
    """
    same = [column for column in RUN if column != "model"]
    references = dict(iter(curves[curves["model"] == reference].groupby(same)))
    rows = []
    for key, run in curves[curves["model"] != reference].groupby(RUN):
        place = dict(zip(RUN, key, strict=True))
        found = references.get(tuple(place[column] for column in same))
        if found is not None:
            points = points_of_all([found, run], clock)
            logs = log_ratio(found, run, clock, points)
            rows.append(place | _factors(logs) | {"compared_until": float(points[-1])})
    return pd.DataFrame(rows, columns=[*RUN, *_factors(np.zeros(1)), "compared_until"])


ANSWERS: dict[str, Callable[[Results, Config], Answer]] = {
    "rate_over_batch_size": rate_over_batch_size,
    "number_of_classes": of_runs,
    "regression": of_runs,
    "larger_networks": of_runs,
    "larger_rate": larger_rate,
    "mixed_precision": mixed_precision,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A table and a figure of an extension's finished runs.")
    parser.add_argument("name", choices=list(ANSWERS))
    parser.add_argument("--results", help="folder of its results, if it is not the one that the extension names")
    parser.add_argument("--to", default=HERE / "extensions", type=Path, help="folder to write to")
    options = parser.parse_args(arguments)
    config = configuration(options.name, options.results)
    try:
        answer(options.name, config, options.to)
    except FishertailError as error:
        parser.exit(2, f"error: {error}\n")


def answer(name: str, config: Config, folder: Path) -> None:
    """Write the table and the figure of an extension, and print the table."""
    kept = None
    if name in SEEDS:
        kept = configuration(name, str(HERE), models=[KEPT], seeds=SEEDS[name])
    results, files = finished(config, kept, [*NEEDED, *ALSO_NEEDED.get(name, ())])
    record = provenance.provenance(Path(__file__).stem, {"extension": name}, provenance.data_of(files))
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(drawing.STYLE):
        table, figure, curves = ANSWERS[name](results, config)
        with storage.atomic(folder / f"{name}.svg") as path:
            figure.savefig(path, format="svg", metadata={"Date": None, "Description": json.dumps(record)})
        plt.close(figure)
    storage.write_table(table, folder / f"{name}.csv", record)
    storage.write_table(curves, folder / f"{name}_curves.csv", record)
    print(table.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
