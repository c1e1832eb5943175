"""Eigenvectors of F from the Gram matrix of a few gradients: G^T c, with c an eigenvector of G G^T."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh

from fishertail.gradients.cache import RowStore

DENSE = 500  # samples, beyond which Lanczos finds a few eigenpairs faster than a full reduction


def grams(
    store: RowStore, scopes: Mapping[str, tuple[str, ...]], index: torch.Tensor, memory: float
) -> dict[str, torch.Tensor]:
    """G G^T (n, n) float64 of the samples at `index` (ascending), for each scope.

    Args:
        memory: bytes for rows that are gathered; where they do not fit, some layers are treated after the others.
    """
    needed = {layer for layers in scopes.values() for layer in layers}
    result: dict[str, torch.Tensor] = {}
    for some in _together(store, needed, len(index), memory):
        for layer, rows in store.together(index, some).items():
            gram = rows.gram().cpu()
            for name, layers in scopes.items():
                if layer in layers:
                    result[name] = result[name] + gram if name in result else gram
    return result


def _together(store: RowStore, layers: Collection[str], samples: int, memory: float) -> list[list[str]]:
    """Layers whose rows are gathered together."""
    groups: list[list[str]] = [[]]
    held = 0
    for layer in store.layers:
        if layer in layers:
            size = samples * store.matrix.row_bytes[layer]
            if groups[-1] and held + size > memory:
                groups.append([])
                held = 0
            groups[-1].append(layer)
            held += size
    return groups


def leading_pairs(gram: torch.Tensor, count: int, rtol: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest eigenvalues (b,), largest first, and eigenvectors (n, b); all n where that is fewer.

    Args:
        rtol: relative error of the eigenvalues.
    """
    n = len(gram)
    matrix = gram.numpy()
    if n > DENSE:
        try:
            values, vectors = eigsh(matrix, k=count, v0=np.random.default_rng(0).standard_normal(n), tol=rtol)
            order = np.argsort(values)[::-1]
            return _leading(values[order], vectors[:, order])
        except ArpackError:  # too many equal eigenvalues
            pass
    values, vectors = eigh(matrix, subset_by_index=[max(n - count, 0), n - 1])
    return _leading(values[::-1], vectors[:, ::-1])


def _leading(values: np.ndarray, vectors: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(values.copy()).clamp_min(0), torch.from_numpy(vectors.copy())
