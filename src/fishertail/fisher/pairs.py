"""What is found of a scope: its largest eigenvalues, with vectors, a_x, residuals and proofs."""

from dataclasses import dataclass

import numpy as np

from fishertail.fisher.problem import Problem


@dataclass(frozen=True)
class Eigenpairs:
    """The k largest eigenpairs of F in one scope: a layer's parameters, or those of the whole network.

    A pair with `converged` has |F V - lambda V| = `residuals` at most, and by it an estimated relative eigenvalue
    error of at most the tolerance. `certified` is a proof that it is the i-th largest: the Gram matrix of the start
    bounds the next eigenvalue from above, by what its samples have and all the trace that the others hold. Where the
    norms are still even (the first epochs) that proves nothing, and `certified` is False for a right pair, too.
    """

    eigenvalues: np.ndarray  # (k,) float64, largest first
    eigenvectors: np.ndarray  # (k, P) float32: unit vectors, in the order of the scope's parameters(), flattened
    projections: np.ndarray  # (N, p) float64: a_x for the first p pairs; the sign of V makes its mean >= 0
    residuals: np.ndarray  # (k,) float64: |F V - lambda V|, or an upper bound of it
    converged: np.ndarray  # (k,) bool
    certified: np.ndarray  # (k,) bool
    products: int  # products of F with a vector, over the active samples
    trace: float  # mean |g_x|^2: the sum of all eigenvalues


def degenerate(problem: Problem) -> Eigenpairs:
    """The outcome where all gradients are zero, or F is not defined."""
    finite = problem.trace == 0
    value = 0.0 if finite else np.inf
    return Eigenpairs(
        eigenvalues=np.full(problem.k, value),
        eigenvectors=np.zeros((problem.k, problem.parameters), dtype=np.float32),
        projections=np.zeros((len(problem.shares), problem.projected)),
        residuals=np.full(problem.k, value),
        converged=np.full(problem.k, finite),
        certified=np.full(problem.k, finite),
        products=0,
        trace=problem.trace,
    )
