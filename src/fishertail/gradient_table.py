"""Norms of per-sample gradients by epoch, as a table."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from fishertail.checkpoints import Weights
from fishertail.gradients.matrix import GradientMatrix, GradientNorms
from fishertail.gradients.network import NETWORK

if TYPE_CHECKING:
    from fishertail.data.dataset import Dataset

INDEX = ["epoch", "sample", "loss", "correct"]  # the columns that are no layers


def gradient_table(
    model: nn.Module, weights: Mapping[int, Weights], dataset: "Dataset", device: str = "cpu"
) -> pd.DataFrame:
    """Loss, correctness and gradient norms of every training sample at every epoch of `weights`.

    Returns:
        columns INDEX, then the norm for each layer and for "network"; losses and norms as float32, whose rounding of
        6e-8 is below the error of the norms.
    """
    images, labels = dataset.training_data(device)
    tables = []
    for epoch, state in tqdm(weights.items(), desc="per-sample gradients", unit="epoch"):
        with open_matrix(model, state, images, labels, device) as matrix:
            norms = matrix.norms()
        columns = {"epoch": np.int32(epoch), "sample": np.arange(len(labels), dtype=np.int32)}
        columns |= {"loss": norms.loss.astype(np.float32), "correct": norms.correct}
        columns |= {layer: norms.per_layer[:, i].astype(np.float32) for i, layer in enumerate(norms.layers)}
        tables.append(pd.DataFrame({**columns, NETWORK: norms.network.astype(np.float32)}))
    return pd.concat(tables, ignore_index=True)


def merged(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The tables of some epochs each, as one in the order of epochs."""
    return pd.concat(tables).sort_values("epoch", kind="stable", ignore_index=True)


def norms_at(table: pd.DataFrame, epoch: int, layers: Iterable[str]) -> GradientNorms:
    """The norms of one epoch out of what `gradient_table` gave."""
    part = table[table["epoch"] == epoch].sort_values("sample")
    layers = tuple(layers)
    return GradientNorms(
        layers=layers,
        per_layer=part[list(layers)].to_numpy(dtype=np.float64),
        loss=part["loss"].to_numpy(dtype=np.float64),
        correct=part["correct"].to_numpy(dtype=bool),
    )


def open_matrix(
    model: nn.Module, weights: Weights, images: torch.Tensor, labels: torch.Tensor, device: str
) -> GradientMatrix:
    """The gradient matrix of `model` with `weights`, in eval mode; to be used as a context."""
    model.load_state_dict(weights)
    model.to(device).eval()
    return GradientMatrix(model, images, labels, device=device)
