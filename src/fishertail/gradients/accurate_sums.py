"""Sums over long rows: float32 within chunks, float64 between them.

Over millions of entries float32 alone errs by 3e-5 to 9e-5, which breaks a tolerance of 1e-4.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch

_CHUNK = 1 << 12  # entries in one float32 sum
_PRODUCT_CHUNK = 1 << 16  # columns in one float32 matrix product


def lengths(rows: torch.Tensor) -> torch.Tensor:
    """(n,) float64: Euclidean norms of rows (n, ...) near 1, so that float32 squares neither vanish nor overflow."""
    rows = rows.flatten(1)
    if rows.shape[1] <= _CHUNK:
        return _norms(rows, dim=1).double()
    parts = [_norms(part, dim=2).double() for part in _chunks(rows)]
    return _norms(torch.cat(parts, dim=1), dim=1)


def inner_products(a: torch.Tensor, b: torch.Tensor, shared: int = 1) -> torch.Tensor:
    """(n,) float64: a_x . b_x for b (n, ...), and a (n / shared, ...) of which each stands for so many of b in turn."""
    products = a * b if shared == 1 else (a[:, None] * b.unflatten(0, (-1, shared))).flatten(0, 1)
    products = products.flatten(1)
    if products.shape[1] <= _CHUNK:
        return products.sum(1).double()
    return torch.cat([part.sum(2).double() for part in _chunks(products)], dim=1).sum(1)


def sums_in_turn(rows: torch.Tensor, shared: int) -> torch.Tensor:
    """(n / shared, ...): the sums of so many rows (n, ...) in turn."""
    return rows if shared == 1 else rows.unflatten(0, (-1, shared)).sum(1)


def long_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, m) float64: A B^T for A (n, P) and B (m, P)."""
    if a.shape[1] <= _PRODUCT_CHUNK:
        return (a @ b.T).double()
    parts = zip(a.split(_PRODUCT_CHUNK, dim=1), b.split(_PRODUCT_CHUNK, dim=1), strict=True)
    total = a.new_zeros(len(a), len(b), dtype=torch.float64)
    for part, other in parts:
        total += part @ other.T
    return total


def sum_of(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of one or more tensors, from the first to the last."""
    return reduce(add, parts)


def _norms(rows: torch.Tensor, dim: int) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=dim)
    return norms


def _chunks(rows: torch.Tensor) -> list[torch.Tensor]:
    """Views (n, chunks, entries) of rows (n, P): whole chunks, then the remainder."""
    whole = rows.shape[1] // _CHUNK * _CHUNK
    parts = [rows[:, :whole].unflatten(1, (-1, _CHUNK)), rows[:, None, whole:]]
    return [part for part in parts if part.shape[2]]
