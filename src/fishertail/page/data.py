"""What the page's explorer shows, as compact JSON: curves, histograms and outliers by run, and the images."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fishertail.data.dataset import Dataset
from fishertail.data.source import built_in
from fishertail.results.exhibits import Panel, Results
from fishertail.results.schema import RUN
from fishertail.statistics.minimum import lowest_validation_loss

LARGEST_SIDE = 96  # pixels of an image: the page shows 72
_DIGITS = 5  # significant ones: more than a screen shows

Run = Mapping[str, Any]


def explorer_data(results: Results, datasets: Sequence[Dataset], panels: Mapping[str, Panel]) -> dict[str, Any]:
    """All that the explorer shows.

    Args:
        results: with the tables metrics, spectrum, ax_histogram, outliers and outlier_samples, and those of the panels.
        datasets: whose images are shown.
        panels: charts of a run, by name.
    """
    edges = np.append(np.sort(results["ax_histogram"]["bin_left"].unique()), np.inf)
    samples = results["outlier_samples"]
    shown: dict[Any, Any] = samples.groupby("dataset")["sample"].unique().to_dict() if len(samples) else {}
    known = built_in()
    runs = [run_data(run, results, panels) for run in results.runs]
    return {
        "edges": [edge if np.isfinite(edge) else "inf" if edge > 0 else "-inf" for edge in edges.tolist()],
        "runs": [run for run in runs if any(layer["analysed"] for layer in run["layers"].values())],
        "panels": {name: {"title": panel.title, "counts": panel.counts} for name, panel in panels.items()},
        "images": {data.name: image_data(data, sorted(shown.get(data.name, []))) for data in datasets},
        "classes": {data.name: known[data.name].classes or None if data.name in known else None for data in datasets},
    }


def run_data(run: Run, results: Results, panels: Mapping[str, Panel]) -> dict[str, Any]:
    """One run: its curves over all checkpoints, and by layer what is known where a_x was analysed."""
    metrics = _of_run(results["metrics"], run).sort_values("step")
    spectrum, histograms = (_of_run(results[name], run) for name in ("spectrum", "ax_histogram"))
    tables = {name: _chosen(_of_run(results[panel.table], run), panel) for name, panel in panels.items()}
    lowest = lowest_validation_loss(metrics)
    return {name: run[name] for name in RUN} | {
        "figure_layer": run["figure_layer"],
        "minimum": lowest.step,
        "passed": lowest.passed,
        "per_epoch": lowest.step // lowest.epoch if lowest.epoch else int(metrics["step"].max() or 1),
        "steps": metrics["step"].tolist(),
        "validation_loss": _rounded(metrics["validation_loss"]),
        "validation_accuracy": _rounded(metrics["validation_accuracy"]),
        "layers": {
            layer: _layer_data(layer, spectrum, histograms, tables, panels)
            for layer in dict.fromkeys(spectrum["layer"])
        },
        "samples": _samples(_of_run(results["outlier_samples"], run), run["figure_layer"]),
    }


def _of_run(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    return table[(table[RUN] == [run[name] for name in RUN]).all(axis=1)]


def _chosen(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    for column, value in panel.rows.items():
        table = table[table[column] == value]
    return table.sort_values("step")


def _layer_data(
    layer: str,
    spectrum: pd.DataFrame,
    histograms: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    panels: Mapping[str, Panel],
) -> dict[str, Any]:
    first = spectrum[(spectrum["layer"] == layer) & (spectrum["rank"] == 1)].sort_values("step")
    counts = histograms[histograms["layer"] == layer]
    table = counts.pivot(index="step", columns="bin_left", values="count").sort_index()
    first = first[first["step"].isin(table.index)]
    curves = {}
    for name, panel in panels.items():
        part = tables[name]
        part = part[part["layer"] == layer] if "layer" in part else part
        curves[name] = {"steps": part["step"].tolist(), "values": _rounded(part[panel.column])}
    return {
        "analysed": first["step"].tolist(),
        "converged": first["converged"].astype(bool).tolist(),
        "counts": [_sparse(row) for row in table.loc[first["step"]].to_numpy()],
        "curves": curves,
    }


def _samples(table: pd.DataFrame, figure_layer: str) -> dict[str, Any]:
    """The outliers at each step, with a_x of the figure layer."""
    if not len(table):
        return {}
    a_x = table[figure_layer] if figure_layer in table else pd.Series(np.nan, index=table.index)
    table = table.assign(a_x=a_x)
    columns = ["sample", "label", "loss", "gradient_norm", "a_x", "correct"]
    return {
        str(step): [
            [int(sample), int(label), *_rounded([loss, norm, a_x]), bool(correct)]
            for sample, label, loss, norm, a_x, correct in part[columns].itertuples(index=False, name=None)
        ]
        for step, part in table.groupby("step")
    }


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
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
