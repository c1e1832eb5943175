"""The leading eigenpairs of a Gram matrix that is at hand."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh

_DENSE = 500  # samples, beyond which Lanczos finds a few eigenpairs faster than a full reduction


def leading_pairs(gram: torch.Tensor, count: int, rtol: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest eigenvalues (b,), largest first, and eigenvectors (n, b); all n if that is fewer.

    Args:
        gram: (n, n) float64, on the CPU.
        rtol: relative error of the eigenvalues.
    """
    n = len(gram)
    matrix = gram.numpy()
    if n > _DENSE:
        try:
            values, vectors = eigsh(matrix, k=count, v0=np.random.default_rng(0).standard_normal(n), tol=rtol)
            order = np.argsort(values)[::-1]
            return _as_tensors(values[order], vectors[:, order])
        except ArpackError:  # too many equal eigenvalues
            pass
    values, vectors = eigh(matrix, subset_by_index=[max(n - count, 0), n - 1])
    return _as_tensors(values[::-1], vectors[:, ::-1])


def _as_tensors(values: NDArray[np.float64], vectors: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(values.copy()).clamp_min(0), torch.from_numpy(vectors.copy())
