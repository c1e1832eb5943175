"""The largest eigenpairs of the empirical Fisher matrix F = 1/N sum_x g_x g_x^T (eq. 4, 5), and a_x = V_1^T g_x (6)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fishertail.fisher.pairs import Eigenpairs
from fishertail.fisher.solver import solve
from fishertail.gradients.matrix import GradientMatrix, GradientNorms
from fishertail.gradients.network import NETWORK

__all__ = ["Eigenpairs", "fisher_eigenpairs", "scopes_of", "solve"]


def fisher_eigenpairs(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
    projected: int | None = None,
    loss: Callable | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    memory_budget: float | None = None,
    output: str | int | None = None,
    norms: GradientNorms | None = None,
) -> dict[str, Eigenpairs]:
    """The k largest eigenpairs of the empirical Fisher matrix over all samples, for each layer asked for.

    Args:
        model, images, labels, loss, device, batch_size, output: as of `gradient_norms`.
        layers: names of layers, and "network" for all parameters together; by default all of these.
        k: how many of the largest eigenvalues; of a layer with fewer parameters, as many as it has.
        rtol: relative error of the eigenvalues.
        projected: for how many of the pairs a_x of all samples is wanted, each at a third of a forward and backward
            pass; all k by default. The eigenvalues of the others are those over the active samples, too low by a tenth
            of `rtol` at most, in units of the k-th.
        memory_budget: bytes for batches, per-sample gradients, vectors and Gram matrices, beyond the model, the data
            and what is returned; half of the free memory by default. Less costs time, not accuracy.
        norms: what `gradient_norms` returned for the same model and data, to save that pass.

    Returns:
        a mapping of each name to its `Eigenpairs`. Where gradients are zero, eigenvalues and a_x are 0; where one is
        not finite, F is not defined and the eigenvalues are infinite with converged = False.

    Raises:
        UnsupportedModelError, ValueError, TypeError: as of `gradient_norms`; k larger than the number of samples; a
            budget that is too small, with the least that would do.
    """
    options = {"loss": loss, "device": device, "batch_size": batch_size, "output": output}
    with GradientMatrix(model, images, labels, memory_budget=memory_budget, **options) as matrix:
        scopes = scopes_of(matrix, layers)
        return solve(matrix, scopes, norms, k=k, rtol=rtol, projected=projected, memory_budget=memory_budget)


def scopes_of(matrix: GradientMatrix, names: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The layers that each name stands for: itself, or all of them for "network". All names by default."""
    known = {layer: (layer,) for layer in matrix.layers} | {NETWORK: matrix.layers}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"layers: among {', '.join(known)} expected, found {', '.join(map(repr, unknown))}")
    return {name: layers for name, layers in known.items() if names is None or name in names}
