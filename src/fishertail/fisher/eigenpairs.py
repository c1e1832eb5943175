"""`fisher_eigenpairs`: the largest eigenpairs of F = 1/N sum_x g_x g_x^T (eq. 4, 5), and a_x = V_1^T g_x (eq. 6)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fishertail.fisher.result import Eigenpairs
from fishertail.fisher.solver import solve
from fishertail.gradients.matrix import GradientMatrix, GradientNorms
from fishertail.gradients.model_checks import NETWORK, check_names

_COMPARED = 16  # samples whose norms are computed again where norms are given
_AGREEMENT = 1e-2  # of these norms

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
    loss: Callable[..., torch.Tensor] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    memory_budget: float | None = None,
    output: str | int | None = None,
    norms: GradientNorms | None = None,
) -> dict[str, Eigenpairs]:
    """The k largest eigenpairs of the empirical Fisher matrix over all samples, for each layer asked for.

    Args:
        model, images, labels, loss, device, batch_size, output: see `gradient_norms`.
        layers: names of layers, and "network" for all parameters together; by default all of these.
        k: how many of the largest eigenvalues; at most the number of samples. A layer with P < k parameters has P
            eigenpairs.
        rtol: relative error of the eigenvalues.
        projected: for how many of the pairs a_x of all samples is wanted, at a third of a forward and backward pass
            for each; by default all k. The eigenvalues of the other pairs are those over the active samples, which
            are too low by at most a tenth of `rtol` times the k-th eigenvalue.
        memory_budget: bytes for batches, per-sample gradients, vectors and Gram matrices, beyond the model, the data
            and what is returned; by default half of the free memory. Less memory costs time, not accuracy.
        norms: what `gradient_norms` returned for the same model, data and loss, to save that pass. A few samples' norms
            are compared with it.

    Returns:
        the `Eigenpairs` by name. If all gradients are zero, eigenvalues and a_x are 0; if one is not finite, F is not
        defined, and the eigenvalues are infinite with `converged` False.

    Raises:
        UnsupportedModelError, DeviceError, NodeError, TypeError: see `gradient_norms`.
        ValueError: see `gradient_norms`; also an unknown layer, or none; k or `projected` out of range; a budget
            that is too small, with the least that would do; norms of other weights, data or another loss.
    """
    with GradientMatrix(
        model,
        images,
        labels,
        loss=loss,
        device=device,
        batch_size=batch_size,
        memory_budget=memory_budget,
        output=output,
    ) as matrix:
        check_names(layers, [*matrix.layers, NETWORK])
        if norms is not None:
            _check_norms(matrix, norms)
        return solve(matrix, scopes_of(matrix, layers), norms, k=k, rtol=rtol, projected=projected)


def _check_norms(matrix: GradientMatrix, norms: GradientNorms) -> None:
    """Compare norms with those of a few samples, spread over the data. Fewer than half may differ, as at a ReLU's kink.

    Raises:
        TypeError: they are none that `gradient_norms` returned.
        ValueError: they are those of others.
    """
    if not isinstance(norms, GradientNorms):
        raise TypeError(f"norms: what gradient_norms returned expected, found {type(norms).__name__}")
    if len(norms.loss) != len(matrix):
        raise ValueError(f"norms: those of {len(matrix)} samples expected, found those of {len(norms.loss)}")
    common = [layer for layer in norms.layers if layer in matrix.layers]
    places = [norms.layers.index(layer) for layer in common]
    index = torch.linspace(0, len(matrix) - 1, _COMPARED).long().unique()
    for batch in matrix.batches(index, common) if common else ():
        of_layers = torch.stack([batch.rows[layer].norms() for layer in common]).nan_to_num(nan=torch.inf)
        expected: NDArray[np.float64] = np.hypot.reduce(
            of_layers.cpu().numpy(), axis=0
        )  # squares below 1e-324 would underflow
        found: NDArray[np.float64] = np.hypot.reduce(norms.per_layer[batch.index][:, places], axis=1)
        far: NDArray[np.bool_] = ~np.isclose(found, expected, rtol=_AGREEMENT, atol=0)
        if far.sum() > len(far) / 2:
            worst = int(far.argmax())
            raise ValueError(
                f"norms: those of this model, data and loss expected, with {expected[worst]:.4g} for sample "
                f"{int(batch.index[worst])}; found {found[worst]:.4g}: call gradient_norms again after each step"
            )


def scopes_of(matrix: GradientMatrix, names: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The layers that each name stands for: itself, or all of them for "network". By default all names.

    Raises:
        ValueError: a name is neither that of a layer nor "network".
    """
    known = {layer: (layer,) for layer in matrix.layers} | {NETWORK: matrix.layers}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"layers: among {', '.join(known)} expected, found {', '.join(map(repr, unknown))}")
    return {name: layers for name, layers in known.items() if names is None or name in names}
