"""The leading eigenpairs of a Gram matrix that is at hand."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

_DENSE = 500  # samples, beyond which Lanczos finds a few eigenpairs faster than a full reduction
_ROUNDING = 1e-14  # of the largest eigenvalue: by so much those of Lanczos may err

Matrix = NDArray[np.float64]


def leading_pairs(gram: torch.Tensor, count: int, rtol: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest eigenvalues (b,), largest first, and eigenvectors (n, b); all n if that is fewer.

    Args:
        gram: (n, n) float64, on the CPU.
        rtol: relative error of the eigenvalues.
    """
    n = len(gram)
    largest = float(gram.diagonal().max())  # entry of all, since no eigenvalue is negative
    scale = largest if largest > 0 else 1.0  # ARPACK takes what is far below 1 as converged
    matrix = gram.numpy() / scale
    found = _by_lanczos(matrix, count, rtol) if n > _DENSE else None
    values, vectors = found or eigh(matrix, subset_by_index=[max(n - count, 0), n - 1])
    order = np.argsort(values)[::-1]
    return torch.from_numpy(values[order] * scale).clamp_min(0), torch.from_numpy(vectors[:, order].copy())


def _by_lanczos(matrix: Matrix, count: int, rtol: float) -> tuple[Matrix, Matrix] | None:
    """The `count` largest eigenvalues and their eigenvectors; None where Lanczos does not find them.

    The Krylov space of one vector has a single eigenvector of an eigenvalue, however often this is repeated, and
    rounding brings in the others late. So the matrix without the eigenvectors found is searched from another vector.
    """
    first, second = np.random.default_rng(0).standard_normal((2, len(matrix)))
    try:
        values, vectors = eigsh(matrix, k=count, v0=first, tol=rtol)
        rest = LinearOperator(
            matrix.shape, matvec=lambda x: matrix @ x - vectors @ (values * (vectors.T @ x)), dtype=matrix.dtype
        )
        (missed,) = eigsh(rest, k=1, which="LA", v0=second, tol=rtol, return_eigenvectors=False)
    except ArpackError:  # too many equal eigenvalues
        return None
    return None if missed > values.min() * (1 + rtol) + _ROUNDING * values.max() else (values, vectors)
