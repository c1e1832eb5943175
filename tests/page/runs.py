"""Folders of a run's tables, small and made up, and what a page says of them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fishertail.results import storage

PER_EPOCH, SAMPLES = 4, 30
STEPS = (0, 1, 2, 4, 8, 12, 16)
LAYERS = ("first", "second", "network")


def tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Norms, projections, a spectrum and metrics of a run with two layers."""
    rng = np.random.default_rng(seed)
    norms, projections, spectrum, metrics = [], [], [], []
    for position, step in enumerate(STEPS):
        time = {"step": step, "epoch": step / PER_EPOCH}
        a_x = {layer: rng.normal(size=SAMPLES) * (1 + position) / (1 + i) for i, layer in enumerate(LAYERS)}
        sizes = {layer: np.abs(values) + rng.exponential(size=SAMPLES) ** 3 for layer, values in a_x.items()}
        samples = {"sample": np.arange(SAMPLES), "label": np.arange(SAMPLES) % 3}
        graded = {"loss": rng.random(SAMPLES), "correct": rng.random(SAMPLES) < 0.5}
        norms.append(pd.DataFrame(time | samples | graded | sizes))
        projections.append(pd.DataFrame(time | {"sample": samples["sample"]} | a_x))
        spectrum += [
            time | {"layer": layer, "rank": 1, "eigenvalue": float(np.mean(a_x[layer] ** 2)), "converged": True}
            for layer in LAYERS
        ]
        loss = abs(step - 8) / 10 + 0.5
        metrics.append(time | {"train_loss": 1 / (1 + step), "train_accuracy": step / 20, "validation_loss": loss})
    found = {"norms": norms, "projections": projections}
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    return whole | {"spectrum": pd.DataFrame(spectrum), "metrics": pd.DataFrame(metrics)}


def write(folder: Path, given: dict[str, pd.DataFrame]) -> Path:
    """Write tables as fishertail does."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in given.items():
        suffix = "parquet" if name in ("norms", "projections", "ax_histogram") else "csv"
        storage.write_table(table, folder / f"{name}.{suffix}", {})
    return folder


def shown(page: Path) -> dict[str, Any]:
    """The explorer's data, which a page carries."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])
