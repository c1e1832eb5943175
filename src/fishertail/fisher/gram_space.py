"""`GramSpace`: eigenpairs from the Gram matrix of all samples that matter, without a product of F with a vector."""

from collections.abc import Sequence

import torch

from fishertail.fisher.eigenproblem import Eigenproblem
from fishertail.fisher.krylov import lengths_of_rows
from fishertail.fisher.leading_pairs import leading_pairs
from fishertail.fisher.operator import GradientOperator
from fishertail.fisher.space import eigenvalue_errors, padded
from fishertail.gradients.cache import RowCache

_ROUNDING = 4  # units of rounding in an entry of the Gram matrix, in the product of the two norms
_ZERO = 16  # units of rounding in G^T W u
_LANCZOS = (2000, 600)  # multiplications for each entry of the Gram matrix: for any k, and for each pair besides
_PRODUCTS = 2  # of F with each vector, which are expected otherwise


class GramSpace:
    """The eigenpairs of F = sum_x w_x^2 g_x g_x^T from those of W G G^T W. Attributes: see `Space`.

    If W G G^T W u = lambda u, then V = G^T W u / sqrt(lambda). The residual bounds the effect of rounding in the Gram
    matrix.

    Args:
        gram: G G^T (n, n) float64 of the samples at `index`.
        dtype: in which the Gram matrix was computed.
    """

    def __init__(self, problem: Eigenproblem, gram: torch.Tensor, index: torch.Tensor, dtype: torch.dtype) -> None:
        weights, eps = problem.weights[index], torch.finfo(dtype).eps
        values, vectors = leading_pairs(gram * torch.outer(weights, weights), problem.k + 1, 0.1 * problem.rtol**2)
        norms = (vectors.abs() * problem.shares[index].sqrt()[:, None]).sum(0)  # sum_x |u_x| |w_x g_x|
        solving = torch.finfo(torch.float64).eps * values[:1]  # the rounding of the solver
        usable = values > torch.maximum(eps * torch.minimum(values[:1], norms.square()), _ROUNDING * solving)
        lengths = torch.where(usable, values, 1.0).sqrt()
        self.coefficients = (weights[:, None] * vectors / lengths)[:, : problem.k]
        self._usable = usable[: problem.k]
        self._projections = padded((gram @ torch.where(self._usable, self.coefficients, 0.0)).T, problem.k).T
        values = torch.where(usable, values, 0.0)
        self.values = padded(values[: problem.k], problem.k)
        self.next_value: float | None = float(values[problem.k]) if len(values) > problem.k else 0.0
        self.residuals = padded(_ROUNDING * (eps * norms + solving)[: problem.k], problem.k)
        self._zero = _ZERO * (eps * norms + solving / values[:1].clamp_min(1e-300).sqrt())[: problem.k]
        self.product_count = 0
        self._rtol = problem.rtol
        self.ritz_vectors = torch.empty(0)

    def take_vectors(self, vectors: torch.Tensor) -> None:
        """Take in G^T c for the `coefficients` c, which has a length of 1 up to rounding.

        Where the Gram matrix does not tell an eigenvalue from 0, G^T W u does, whose length is the root of it: it is 0
        up to rounding, or the pair has not converged.
        """
        lengths = lengths_of_rows(vectors)
        unit = torch.where(self._usable, 1 / torch.where(lengths > 0, lengths, 1.0), 0.0)
        self.ritz_vectors = vectors * unit.to(vectors)[:, None]
        is_zero = ~self._usable & (lengths <= self._zero)
        self.residuals[: len(is_zero)][is_zero] = 0.0

    def vectors(self) -> torch.Tensor:
        """(k, P) unit vectors V; 0 where F has a lower rank."""
        return padded(self.ritz_vectors, len(self.values))

    def projections(self) -> torch.Tensor:
        """(n, k) float64: G V."""
        return self._projections

    def converged(self, residuals: torch.Tensor) -> torch.Tensor:
        """(k,) bool: whether eigenvalues with these residuals are within the tolerance."""
        return eigenvalue_errors(self.values, residuals, self.next_value) <= self._rtol * self.values


def gram_spaces(
    operator: GradientOperator, problems: Sequence[Eigenproblem], grams: Sequence[torch.Tensor]
) -> list[GramSpace]:
    """The eigenpairs of all scopes over the operator's samples, from their Gram matrices G G^T."""
    dtype, device = operator.cache.matrix.dtype, operator.cache.device
    pairs = zip(problems, grams, strict=True)
    spaces = [GramSpace(problem, gram, operator.index, dtype) for problem, gram in pairs]
    vectors = operator.combine([space.coefficients.to(device) for space in spaces])
    for space, part in zip(spaces, vectors, strict=True):
        space.take_vectors(part)
    return spaces


def gram_is_cheaper(
    cache: RowCache, problems: Sequence[Eigenproblem], samples: int, memory: float, gathered: float
) -> bool:
    """Whether the Gram matrix of so many samples costs less than the products with vectors that it saves.

    Args:
        memory, gathered: bytes for Gram matrices, and for the rows that they are computed from.
    """
    rows = samples * sum(cache.matrix.row_bytes[layer] for layer in cache.layers)
    if 3 * 8 * samples**2 * len(problems) > memory or rows > gathered or samples < 2:
        return False
    by_gram = by_products = 0.0
    for layer in cache.layers:
        pair, vector = cache.costs(layer)
        wanted = sum(problem.k for problem in problems if layer in problem.layers)
        by_gram += samples * pair
        by_products += 2 * _PRODUCTS * wanted * vector
    by_gram += samples * sum(_LANCZOS[0] + _LANCZOS[1] * problem.k for problem in problems)
    return by_gram < by_products
