"""What the page's explorer shows, as compact JSON: curves, histograms and outliers by run, and the images."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fishertail.data.dataset import Dataset
from fishertail.data.source import built_in
from fishertail.page.instruments import Instrument
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN, shown_layer
from fishertail.statistics.minimum import lowest_validation_loss

LARGEST_SIDE = 96  # pixels of an image: the page shows 72
NETWORK = "network"  # the layer that stands for all of them
READING = "measurements.outliers.reading"  # the setting; distance where there is none
_DIGITS = 5  # significant ones: more than a screen shows

Run = Mapping[str, Any]


def explorer_data(
    results: Results, datasets: Sequence[Dataset], instruments: Mapping[str, Instrument]
) -> dict[str, Any]:
    """All that the explorer shows.

    Args:
        results: a run may lack any of the tables, and a table any of the runs. A run may have a `name` besides the
            columns that name a run of the grid. What an outlier is stands in its settings.
        datasets: whose images are shown.
        instruments: by key.
    """
    instruments = {key: _by_reading(each, _counted(results)) for key, each in instruments.items()}
    histograms = results.tables.get("ax_histogram", pd.DataFrame({"bin_left": []}))
    edges = np.append(np.sort(histograms["bin_left"].unique()).astype(float), np.inf)
    samples = results.tables.get("outlier_samples", pd.DataFrame())
    shown: dict[Any, Any] = samples.groupby("dataset")["sample"].unique().to_dict() if len(samples) else {}
    known = built_in()
    runs = [run_data(run, results, instruments) for run in results.runs]
    return {
        "choices": [name for name in RUN if any("name" not in run for run in results.runs)],
        "edges": [edge if np.isfinite(edge) else "inf" if edge > 0 else "-inf" for edge in edges.tolist()],
        "runs": [run for run in runs if run["steps"]],
        "instruments": {key: each.shown for key, each in instruments.items()},
        "fit": fit([run for run in runs if run["fit"]]),
        "images": {data.name: image_data(data, sorted(shown.get(data.name, []))) for data in datasets},
        "classes": {data.name: known[data.name].classes or None if data.name in known else None for data in datasets},
    }


def run_data(run: Run, results: Results, instruments: Mapping[str, Instrument]) -> dict[str, Any]:
    """One run: its curves, and by layer its curves and histograms."""
    tables = {name: _of_run(table, run) for name, table in results.tables.items() if set(RUN) <= set(table.columns)}
    parts = {key: each.rows(tables.get(each.table)) for key, each in instruments.items()}
    layers = {shown_layer(name): _layer_data(name, tables, parts, instruments) for name in _layers(tables, parts)}
    figure_layer = shown_layer(run["figure_layer"])
    curves = {key: _curve(part, instruments[key]) for key, part in parts.items() if "layer" not in part}
    all_curves = [curves, *(layer["curves"] for layer in layers.values())]
    known = [curve["steps"] for each in all_curves for curve in each.values()]
    return {name: run[name] for name in RUN} | {
        "name": run.get("name") or "{dataset}-{model}/bs{batch_size}/seed{seed}".format(**run),
        "figure_layer": figure_layer if figure_layer in layers else next(iter(layers), None),
        "steps": sorted({step for steps in known for step in steps}),
        "per_epoch": _per_epoch(tables.values()),
        **_minimum(tables.get("metrics")),
        "samples": _number_of_samples(tables),
        "curves": {key: curve for key, curve in curves.items() if curve["steps"]},
        "layers": layers,
        "outliers": _outliers(tables.get("outlier_samples"), run["figure_layer"]),
        "fit": _fit(tables.get("metrics"), tables.get("outliers"), _counted(results)),
        "failures": _failures(tables.get("failures")),
    }


def _counted(results: Results) -> str:
    """The column of `outliers` that counts them as the figures do."""
    return f"outliers_{results.settings.get(READING, 'distance')}"


def _by_reading(instrument: Instrument, counted: str) -> Instrument:
    return replace(instrument, column=counted) if instrument.column == "outliers_distance" else instrument


def _of_run(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    return table[(table[RUN] == [run[name] for name in RUN]).all(axis=1)]


def _layers(tables: Mapping[str, pd.DataFrame], parts: Mapping[str, pd.DataFrame]) -> list[str]:
    """All layers, in the order of depth as the longest table has them, the network last."""
    with_layers = [table for table in (*tables.values(), *parts.values()) if "layer" in table]
    lists = sorted((list(dict.fromkeys(table["layer"])) for table in with_layers), key=len, reverse=True)
    found = dict.fromkeys(layer for layers in lists for layer in layers)
    return [layer for layer in found if layer != NETWORK] + [layer for layer in found if layer == NETWORK]


def _per_epoch(tables: Iterable[pd.DataFrame]) -> float | None:
    """SGD steps per epoch; None where no table says."""
    for table in tables:
        if {"step", "epoch"} <= set(table.columns):
            ratio = (table["step"] / table["epoch"].where(table["epoch"] > 0)).dropna()
            if len(ratio):
                return float(f"{ratio.iloc[-1]:.10g}")
    return None


def _minimum(metrics: pd.DataFrame | None) -> dict[str, Any]:
    """E* of a run; of one without epochs, the checkpoint of lowest validation loss."""
    if metrics is None or "validation_loss" not in metrics or not metrics["validation_loss"].notna().any():
        return {"minimum": None, "passed": None}
    known = metrics[metrics["validation_loss"].notna()]
    if (known["epoch"] == np.floor(known["epoch"])).any():
        lowest = lowest_validation_loss(known)
        return {"minimum": lowest.step, "passed": lowest.passed}
    return {"minimum": int(known["step"].iloc[int(known["validation_loss"].argmin())]), "passed": None}


def _number_of_samples(tables: Mapping[str, pd.DataFrame]) -> int | None:
    for name in ("outliers", "ax_statistics"):
        if name in tables and len(tables[name]):
            return int(tables[name]["samples"].iloc[0])
    return None


def _layer_data(
    layer: str,
    tables: Mapping[str, pd.DataFrame],
    parts: Mapping[str, pd.DataFrame],
    instruments: Mapping[str, Instrument],
) -> dict[str, Any]:
    of_layer = {key: part[part["layer"] == layer] for key, part in parts.items() if "layer" in part}
    curves = {key: _curve(part, instruments[key]) for key, part in of_layer.items()}
    return {
        "curves": {key: curve for key, curve in curves.items() if curve["steps"]},
        "histogram": _histogram(tables.get("ax_histogram"), layer),
        "unconverged": _unconverged(tables.get("spectrum"), layer),
    }


def _curve(part: pd.DataFrame, instrument: Instrument) -> dict[str, Any]:
    written = _whole if instrument.kind == "count" else _rounded
    values = written(part[instrument.column]) if len(part) else []
    known = [(step, value) for step, value in zip(part.get("step", []), values, strict=True) if value is not None]
    return {"steps": [int(step) for step, _ in known], "values": [value for _, value in known]}


def _histogram(histograms: pd.DataFrame | None, layer: str) -> dict[str, Any]:
    if histograms is None:
        return {"steps": [], "counts": []}
    part = histograms[histograms["layer"] == layer]
    table = part.pivot(index="step", columns="bin_left", values="count").sort_index()
    return {"steps": table.index.tolist(), "counts": [_sparse(row) for row in table.to_numpy()]}


def _unconverged(spectrum: pd.DataFrame | None, layer: str) -> list[int]:
    """Steps at which lambda_1 is not known to the tolerance asked for."""
    if spectrum is None or "converged" not in spectrum:
        return []
    first = spectrum[(spectrum["layer"] == layer) & (spectrum["rank"] == 1)]
    return first.loc[~first["converged"].astype(bool), "step"].astype(int).tolist()


def _outliers(table: pd.DataFrame | None, figure_layer: str) -> dict[str, Any]:
    """The outliers at each step, with a_x of the figure layer; what is not known of them is null."""
    if table is None or not len(table):
        return {}
    columns = ["sample", "label", "loss", "gradient_norm", figure_layer, "correct"]
    table = table.assign(**{name: np.nan for name in columns if name not in table})
    return {
        str(step): [
            [int(sample), _known(label, int), *_rounded([loss, norm, a_x]), _known(correct, bool)]
            for sample, label, loss, norm, a_x, correct in part[columns].itertuples(index=False, name=None)
        ]
        for step, part in table.groupby("step")
    }


def _known(value: Any, kind: type) -> Any:
    return None if pd.isna(value) else kind(value)


def _fit(metrics: pd.DataFrame | None, outliers: pd.DataFrame | None, counted: str) -> list[list[float | None]]:
    """Step, training loss, training accuracy and the network's share of outliers, at the checkpoints that have all."""
    if metrics is None or outliers is None or not {"train_loss", "train_accuracy"} <= set(metrics.columns):
        return []
    of_network = outliers[outliers["layer"] == NETWORK]
    joined = metrics.merge(of_network.drop(columns=[*RUN, "epoch"], errors="ignore"), on="step")
    joined["share"] = joined[counted] / joined["samples"]
    joined = joined[["step", "train_loss", "train_accuracy", "share"]].dropna()
    return [[int(step), *_rounded(values)] for step, *values in joined.itertuples(index=False, name=None)]


def fit(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Spearman's rank correlation of the share of outliers with training loss and accuracy, over all checkpoints."""
    points = pd.DataFrame([row for run in runs for row in run["fit"]], columns=["step", "loss", "accuracy", "share"])
    if len(points) < 3:
        return None
    ranks = points[["loss", "accuracy", "share"]].rank()
    found = ranks.corr()["share"]
    loss, accuracy = _rounded([found["loss"], found["accuracy"]])
    return {"runs": len(runs), "checkpoints": len(points), "loss": loss, "accuracy": accuracy}


def _failures(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    if table is None or not {"step", "measurement", "reason"} <= set(table.columns):
        return []
    return [
        {"step": int(step), "measurement": str(measurement), "reason": str(reason)}
        for step, measurement, reason in table[["step", "measurement", "reason"]].itertuples(index=False, name=None)
    ]


def _sparse(counts: NDArray[Any]) -> list[int]:
    """The first bin that is not empty, and the counts from there to the last."""
    used = np.flatnonzero(counts)
    return [int(used[0]), *counts[used[0] : used[-1] + 1].astype(int).tolist()] if used.size else [0]


def image_data(dataset: Dataset, samples: Sequence[int]) -> dict[str, str]:
    """Training images as data URIs, by sample."""
    images = dataset.train_images[list(samples)].numpy()
    return {str(sample): _uri(image) for sample, image in zip(samples, images, strict=True)}


def _uri(image: NDArray[np.uint8]) -> str:
    """Of (C, H, W) bytes: PNG for a single channel, JPEG, a third as large, for the first three."""
    colours = len(image) >= 3
    picture = Image.fromarray(np.moveaxis(image[:3], 0, -1) if colours else image[0])
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    kind, options = ("jpeg", {"quality": 88}) if colours else ("png", {"optimize": True})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rounded(values: Iterable[float]) -> list[float | None]:
    """To _DIGITS significant digits; null where a value is not finite, which JSON cannot say."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in map(float, values)]


def _whole(values: Iterable[float]) -> list[int | None]:
    """Counts as they are; null where there is none."""
    return [int(value) if np.isfinite(value) else None for value in map(float, values)]
