"""What the page's explorer shows, as compact JSON: curves, histograms and outliers by run, and the images."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from fishertail.data.dataset import Dataset
from fishertail.metrics import lowest_validation_loss
from fishertail.tables import RUN

CLASSES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}
LARGEST_SIDE = 96  # pixels of an image: the page shows 72
_DIGITS = 5  # significant ones: more than a screen shows


def explorer_data(
    tables: Mapping[str, pd.DataFrame], runs: Sequence[Mapping], datasets: Sequence[Dataset], reading: str
) -> dict:
    """All that the explorer shows.

    Args:
        tables: metrics, spectrum, histograms, outliers and samples of all runs (`fishertail.tables.collect`).
        runs: dataset, model, batch_size, seed and figure_layer of each.
        datasets: whose images are shown.
        reading: of outliers.
    """
    edges = np.append(np.sort(tables["histograms"]["bin_left"].unique()), np.inf)
    shown = tables["samples"].groupby("dataset")["sample"].unique()
    return {
        "edges": [edge if np.isfinite(edge) else "inf" if edge > 0 else "-inf" for edge in edges.tolist()],
        "runs": [
            run_data(run, **{name: _of_run(table, run) for name, table in tables.items()}, reading=reading)
            for run in runs
        ],
        "images": {data.name: image_data(data, sorted(shown.get(data.name, []))) for data in datasets},
        "classes": {data.name: CLASSES.get(data.name) for data in datasets},
    }


def _of_run(table: pd.DataFrame, run: Mapping) -> pd.DataFrame:
    return table[(table[RUN] == [run[name] for name in RUN]).all(axis=1)]


def run_data(
    run: Mapping,
    metrics: pd.DataFrame,
    spectrum: pd.DataFrame,
    histograms: pd.DataFrame,
    outliers: pd.DataFrame,
    samples: pd.DataFrame,
    reading: str,
) -> dict:
    """One run: its curves over all epochs, and by layer what is known at the analysed epochs.

    Args:
        run: dataset, model, batch_size, seed and figure_layer.
        metrics, spectrum, histograms, outliers, samples: the run's tables, of all its epochs and layers; the spectrum
            and the histograms may have an epoch twice.
        reading: of outliers.
    """
    lowest = lowest_validation_loss(metrics)
    metrics = metrics.sort_values("epoch")
    return {name: run[name] for name in RUN} | {
        "figure_layer": run["figure_layer"],
        "minimum": lowest.epoch,
        "passed": lowest.reached,
        "epochs": metrics["epoch"].tolist(),
        "validation_loss": _rounded(metrics["validation_loss"]),
        "validation_accuracy": _rounded(metrics["validation_accuracy"]),
        "layers": {
            layer: _layer_data(layer, spectrum, histograms, outliers, reading)
            for layer in dict.fromkeys(spectrum["layer"])
        },
        "samples": {
            str(epoch): [
                [int(row.sample), int(row.label), *_rounded([row.loss, row.norm, row.a_x]), bool(row.correct)]
                for row in part.itertuples()
            ]
            for epoch, part in samples.groupby("epoch")
        },
    }


def _layer_data(layer: str, spectrum, histograms, outliers, reading: str) -> dict:
    first = spectrum[(spectrum["layer"] == layer) & (spectrum["rank"] == 1)]
    first = first.drop_duplicates("epoch").sort_values("epoch")
    counts = histograms[histograms["layer"] == layer].drop_duplicates(["epoch", "bin_left"])
    table = counts.pivot(index="epoch", columns="bin_left", values="count").sort_index()
    shares = outliers[outliers["layer"] == layer].sort_values("epoch")
    return {
        "analysed": first["epoch"].tolist(),
        "lambda_1": _rounded(first["eigenvalue"]),
        "converged": first["converged"].astype(bool).tolist(),
        "counts": [_sparse(row) for row in table.loc[first["epoch"]].to_numpy()],
        "outliers": shares[f"outliers_{reading}"].tolist(),
        "count_epochs": shares["epoch"].tolist(),
    }


def _sparse(counts: np.ndarray) -> list[int]:
    """The first bin that is not empty, and the counts from there to the last."""
    used = np.flatnonzero(counts)
    return [int(used[0]), *counts[used[0] : used[-1] + 1].astype(int).tolist()] if used.size else [0]


def image_data(dataset: Dataset, samples: Sequence[int]) -> dict[str, str]:
    """Training images as data URIs, by sample."""
    images = dataset.train_images[list(samples)].numpy()
    return {str(sample): _uri(image) for sample, image in zip(samples, images, strict=True)}


def _uri(image: np.ndarray) -> str:
    """Of (C, H, W) bytes: PNG for a single channel, JPEG, a third as large, for the first three."""
    colours = len(image) >= 3
    picture = Image.fromarray(np.moveaxis(image[:3], 0, -1) if colours else image[0])
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    kind, options = ("jpeg", {"quality": 88}) if colours else ("png", {"optimize": True})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rounded(values) -> list[float | None]:
    """To _DIGITS significant digits; null where a value is not finite, which JSON cannot say."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
