"""Spectra and a_x of checkpoints as tables, and the trimmed eigenvalues at one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from fishertail import gradient_table, storage
from fishertail.checkpoints import Weights
from fishertail.fisher import eigenpairs as fisher
from fishertail.gradient_table import norms_at, open_matrix
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.memory_budget import resolved_budget
from fishertail.gradients.network import NETWORK
from fishertail.mad import trimmed, trimmed_eigenvalue

if TYPE_CHECKING:
    from fishertail.data.dataset import Dataset

SPECTRUM_COLUMNS = ["epoch", "layer", "rank", "eigenvalue", "residual", "converged", "certified", "products", "trace"]
BLOCK_FILES = ["checkpoints", "gradients", "spectrum", "projections", "eigenvectors"]
TRIMMED_COLUMNS = ["layer", "epoch", "A", "B", "decrease_percent", "B_anew", "decrease_anew_percent", "left_out"]


@dataclass(frozen=True)
class Spectra:
    """Eigenpairs of some epochs of a run, as tables."""

    spectrum: pd.DataFrame  # SPECTRUM_COLUMNS
    projections: pd.DataFrame  # epoch, sample, a_x of rank 1 in a column a layer
    eigenvectors: dict[str, torch.Tensor]  # epoch0003/fc4: (k, P) float32


def spectra(
    model: nn.Module,
    weights: Mapping[int, Weights],
    dataset: "Dataset",
    gradients: pd.DataFrame,
    *,
    layers: Sequence[str] | None,
    k: int,
    rtol: float,
    device: str = "cpu",
    memory_budget: float | None = None,
) -> Spectra:
    """Eigenpairs and a_x at the epochs of `weights`, which may be none.

    Args:
        gradients: what `gradient_table` gave for these epochs (more may be in it).
        layers: as of `fisher_eigenpairs`; those that the model does not have are left out.
        k, rtol, memory_budget: as of `fisher_eigenpairs`.
    """
    images, labels = dataset.training_data(device)
    budget = resolved_budget(memory_budget, device)  # once, so that it is the same for all epochs
    results: dict[int, dict[str, fisher.Eigenpairs]] = {}
    for epoch, state in tqdm(weights.items(), desc="eigenpairs", unit="epoch", disable=not weights):
        with open_matrix(model, state, images, labels, device) as matrix:
            scopes = fisher.scopes_of(matrix, _present(layers, matrix))
            norms = norms_at(gradients, epoch, matrix.layers)
            results[epoch] = fisher.solve(matrix, scopes, norms, k=k, rtol=rtol, projected=1, memory_budget=budget)
    return tabulate(results)


def merged(parts: Sequence[Spectra]) -> Spectra:
    """Spectra of some epochs each, as one in the order of epochs."""
    vectors = {name: tensor for part in parts for name, tensor in part.eigenvectors.items()}
    return Spectra(
        spectrum=gradient_table.merged(part.spectrum for part in parts),
        projections=gradient_table.merged(part.projections for part in parts),
        eigenvectors=dict(sorted(vectors.items(), key=lambda item: item[0].split("/")[0])),
    )


def write(found: Spectra, paths, provenance: Mapping) -> None:
    """Write the three files of a block; `paths` has the attributes spectrum, projections and eigenvectors."""
    storage.write_table(found.spectrum, paths.spectrum, provenance)
    storage.write_table(found.projections, paths.projections, provenance)
    storage.write_tensors(found.eigenvectors, paths.eigenvectors, provenance)


def read(paths: Mapping[str, str], epoch: int) -> Spectra | None:
    """What `write` wrote of one epoch; None where that epoch was not analysed."""
    spectrum = storage.read_table(paths["spectrum"], SPECTRUM_COLUMNS)
    if epoch not in spectrum["epoch"].to_numpy():
        return None
    projections = storage.read_table(paths["projections"])
    vectors = storage.read_tensors(paths["eigenvectors"])
    return Spectra(
        spectrum=spectrum[spectrum["epoch"] == epoch],
        projections=projections[projections["epoch"] == epoch],
        eigenvectors={name: v for name, v in vectors.items() if name.startswith(f"epoch{epoch:04d}/")},
    )


def tabulate(results: Mapping[int, Mapping[str, fisher.Eigenpairs]]) -> Spectra:
    """Tables of eigenpairs by epoch and layer."""
    rows, projections, eigenvectors = [], [], {}
    for epoch, by_layer in results.items():
        for layer, pairs in by_layer.items():
            rows += [
                {
                    "epoch": epoch,
                    "layer": layer,
                    "rank": rank + 1,
                    "eigenvalue": pairs.eigenvalues[rank],
                    "residual": pairs.residuals[rank],
                    "converged": pairs.converged[rank],
                    "certified": pairs.certified[rank],
                    "products": pairs.products,
                    "trace": pairs.trace,
                }
                for rank in range(len(pairs.eigenvalues))
            ]
            eigenvectors[f"epoch{epoch:04d}/{layer}"] = torch.from_numpy(pairs.eigenvectors)
        first = {layer: pairs.projections[:, 0].astype(np.float32) for layer, pairs in by_layer.items()}
        samples = len(next(iter(first.values())))
        index = {"epoch": np.int32(epoch), "sample": np.arange(samples, dtype=np.int32)}
        projections.append(pd.DataFrame({**index, **first}))
    return Spectra(
        spectrum=pd.DataFrame(rows, columns=SPECTRUM_COLUMNS),
        projections=pd.concat(projections, ignore_index=True)
        if projections
        else pd.DataFrame({"epoch": np.array([], np.int32), "sample": np.array([], np.int32)}),
        eigenvectors=eigenvectors,
    )


def trimmed_table(
    model: nn.Module,
    weights: Weights,
    epoch: int,
    dataset: "Dataset",
    gradients: pd.DataFrame,
    projections: pd.DataFrame,
    *,
    fraction: float,
    rtol: float,
    device: str = "cpu",
    memory_budget: float | None = None,
) -> pd.DataFrame:
    """A, B and B solved anew (Fig. 6) in every layer that `projections` has, at one epoch.

    A is the largest eigenvalue over all samples, B the same without the share `fraction` of the samples of largest
    abs(a_x): with V_1 kept, the mean of a_x^2 over those that stay; anew, the largest eigenvalue of their own Fisher
    matrix. The decrease is 100 (1 - B / A), and 0 where A is 0.

    Returns:
        TRIMMED_COLUMNS, a row a layer.
    """
    images, labels = dataset.training_data(device)
    at_epoch = projections[projections["epoch"] == epoch]
    layers = [column for column in at_epoch if column not in ("epoch", "sample")]
    keep = {layer: trimmed(at_epoch[layer].to_numpy(), fraction) for layer in layers}
    with open_matrix(model, weights, images, labels, device) as matrix:
        scopes = fisher.scopes_of(matrix, layers)
        norms = norms_at(gradients, epoch, matrix.layers)
        anew = fisher.solve(matrix, scopes, norms, rtol=rtol, projected=0, keep=keep, memory_budget=memory_budget)
    rows = []
    for layer in layers:
        a_x = at_epoch[layer].to_numpy().astype(np.float64)
        largest, kept = float(np.square(a_x).mean()), trimmed_eigenvalue(a_x, fraction)
        solved = float(anew[layer].eigenvalues[0])
        decreases = [100 * (1 - value / largest) if largest > 0 else 0.0 for value in (kept, solved)]
        left_out = int((~keep[layer]).sum())
        rows.append([layer, epoch, largest, kept, decreases[0], solved, decreases[1], left_out])
    return pd.DataFrame(rows, columns=TRIMMED_COLUMNS)


def _present(layers: Sequence[str] | None, matrix: GradientMatrix) -> list[str] | None:
    return None if layers is None else [name for name in layers if name in (*matrix.layers, NETWORK)]
