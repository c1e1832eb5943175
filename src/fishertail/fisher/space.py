"""`Space`: approximate eigenpairs over some samples, however they were found; and how accurate they are."""

from typing import Protocol

import torch


class Space(Protocol):
    """The k leading eigenpairs of F = sum_x w_x^2 g_x g_x^T over n samples. Vectors are rows (., P)."""

    values: torch.Tensor  # (k,) float64, largest first; 0 where F has a lower rank
    residuals: torch.Tensor  # (k,) float64: |F V - value V|
    next_value: float | None  # the value after them, if it is known
    ritz_vectors: torch.Tensor  # (b, P) the vectors that were found: k or more, fewer where F has a lower rank
    product_count: int  # products of F with a vector

    def vectors(self) -> torch.Tensor:
        """(k, P) unit vectors V; 0 where F has a lower rank."""

    def projections(self) -> torch.Tensor:
        """(n, k) float64: G V."""

    def converged(self, residuals: torch.Tensor) -> torch.Tensor:
        """(k,) bool: whether eigenvalues with these residuals are within the tolerance."""


def eigenvalue_errors(values: torch.Tensor, residuals: torch.Tensor, following: float | None) -> torch.Tensor:
    """Bounds of the errors of Ritz values: the residual r, or 2 r^2 / gap if the next eigenvalue is known to be lower.

    Args:
        following: the next Ritz value plus its own residual, since it is known only that well. Without that, two
            eigenvalues with a ratio of 0.999 were mistaken for one that had converged.
    """
    if following is None:
        return residuals
    gap = values - following - residuals
    return torch.where(gap > 0, torch.minimum(residuals, 2 * residuals.square() / gap.clamp_min(1e-300)), residuals)


def padded(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`count` rows; those that are missing are 0."""
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
