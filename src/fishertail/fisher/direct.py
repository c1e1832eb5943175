"""Eigenpairs from the Gram matrix of all samples that matter: without a product of F with a vector."""

from collections.abc import Mapping

import torch

from fishertail.fisher.gram import leading_pairs
from fishertail.fisher.krylov import eigenvalue_errors, lengths_of_rows, padded
from fishertail.fisher.problem import Problem, layers_of_each
from fishertail.fisher.products import combine
from fishertail.gradients.cache import RowStore

_ROUNDING = 4  # units of rounding in an entry of the Gram matrix, in the product of the two norms
_SOLVER = (
    2000,
    600,
)  # multiplications for each entry that Lanczos on the Gram matrix takes: for any k, and for each pair
_PRODUCTS = 2  # of F with each vector that are expected else


class GramSpace:
    """The eigenpairs of F = sum_x w_x^2 g_x g_x^T by those of W G G^T W; in all as `KrylovSpace`.

    With W G G^T W u = lambda u, V = G^T W u / sqrt(lambda). The residual is what rounding in the Gram matrix makes of
    it.
    """

    def __init__(self, problem: Problem, gram: torch.Tensor, index: torch.Tensor, dtype: torch.dtype):
        weights = problem.weights[index]
        values, vectors = leading_pairs(gram * torch.outer(weights, weights), problem.k + 1, 0.1 * problem.rtol**2)
        usable = values > torch.finfo(dtype).eps * values[:1]
        lengths = torch.where(usable, values, 1.0).sqrt()
        self.coefficients = torch.where(usable, weights[:, None] * vectors / lengths, 0.0)[:, : problem.k]
        self._projections = padded((gram @ self.coefficients).T, problem.k).T
        values = torch.where(usable, values, 0.0)
        self.values = padded(values[: problem.k], problem.k)
        self.next_value = float(values[problem.k]) if len(values) > problem.k else 0.0
        roots = problem.shares[index].sqrt()
        rounding = _ROUNDING * torch.finfo(dtype).eps * (vectors[:, : problem.k].abs() * roots[:, None]).sum(0)
        self.residuals = padded(torch.where(usable[: problem.k], rounding, 0.0), problem.k)
        self.products = 0
        self._rtol = problem.rtol
        self.ritz_vectors = torch.empty(0)

    def take_vectors(self, vectors: torch.Tensor) -> None:
        """Take in G^T W u / sqrt(lambda), which has a length of 1 up to rounding."""
        lengths = lengths_of_rows(vectors)
        self.ritz_vectors = vectors / torch.where(lengths > 0, lengths, 1.0).to(vectors)[:, None]

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
    store: RowStore, problems: Mapping[str, Problem], index: torch.Tensor, grams: Mapping[str, torch.Tensor]
) -> dict[str, GramSpace]:
    """The eigenpairs of all scopes over the samples at `index`, whose plain Gram matrices are given."""
    spaces = {name: GramSpace(problem, grams[name], index, store.matrix.dtype) for name, problem in problems.items()}
    coefficients = {name: space.coefficients.to(store.device) for name, space in spaces.items()}
    for name, vectors in combine(store, layers_of_each(problems), index, coefficients).items():
        spaces[name].take_vectors(vectors)
    return spaces


def gram_is_cheaper(
    store: RowStore, problems: Mapping[str, Problem], samples: int, memory: float, gathered: float
) -> bool:
    """Whether the Gram matrix of so many samples costs less than the products with vectors that it saves.

    Args:
        memory, gathered: bytes for Gram matrices, and for the rows that they are of.
    """
    rows = samples * sum(store.matrix.row_bytes[layer] for layer in store.layers)
    if 3 * 8 * samples**2 * len(problems) > memory or rows > gathered or samples < 2:
        return False
    by_gram = by_products = 0.0
    for layer in store.layers:
        pair, vector = store.costs(layer)
        wanted = sum(problem.k for problem in problems.values() if layer in problem.layers)
        by_gram += samples * pair
        by_products += 2 * _PRODUCTS * wanted * vector
    by_gram += samples * sum(_SOLVER[0] + _SOLVER[1] * problem.k for problem in problems.values())
    return by_gram < by_products
