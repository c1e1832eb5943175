"""`block_lanczos`: eigenpairs at one end or both of the spectrum of a symmetric operator, with repeated eigenvalues.

The Krylov space of one vector has a single eigenvector of an eigenvalue, however often this is repeated, so that the
next smaller eigenvalue would be taken for a copy of the largest. That of k vectors has k of them.
"""

from collections.abc import Callable

import torch

from fishertail.fisher.krylov import lengths_of_rows, orthonormalised_beside
from fishertail.gradients.accurate_sums import sum_of

_BASIS = 24  # vectors that are kept at least, before a restart
_LEAST = 12  # products, and _STEPS with the block: before, a vector may look like an eigenvector by chance
_STEPS = 6
_MOST = 500  # products with the block, after which what has not converged is given up
_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}  # of a product, relative to the largest


def block_lanczos(
    multiply: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    like: torch.Tensor,
    *,
    k: int,
    both_ends: bool,
    rtol: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest eigenvalues, ascending, behind the k smallest if these are wanted, and vectors as rows.

    They are NaN where they have not converged, and all of them where the operator is not finite.

    Args:
        multiply: the products (b, P) with vectors (b, P).
        size: P, at least as many as are wanted.
        like: of the type and on the device of vectors.
        rtol: relative to the eigenvalue, the largest residual of a pair that has converged. Where this would be less
            than the rounding of products, as it is for an eigenvalue of 0, the rounding is allowed.
    """
    ends = [*range(k if both_ends else 0), *range(-k, 0)]  # of the Ritz values, ascending
    most = max(4 * len(ends), _BASIS)
    generator = torch.Generator().manual_seed(0)
    basis = products = like.new_empty(0, size)
    values = torch.full((len(ends),), torch.nan, dtype=torch.float64)
    vectors = like.new_full((len(ends), size), torch.nan)
    scale = 0.0  # about the size of a product
    directions, count = _drawn(k, basis, generator), 0
    for step in range(1, _MOST + 1):
        product = multiply(directions)
        if not product.isfinite().all():
            break
        scale = scale or float(product.abs().max()) or 1.0  # so that squares neither vanish nor overflow
        count += len(directions)
        basis, products = torch.cat([basis, directions]), torch.cat([products, product / scale])
        projected = _inner_products(basis, products)
        ritz_values, rotation = torch.linalg.eigh((projected + projected.T) / 2)
        if len(basis) < len(ends):
            directions = orthonormalised_beside(product, basis)
        else:
            ritz, wanted = ritz_values[ends], rotation[:, ends].T.to(like)
            ritz_vectors = wanted @ basis
            residuals = wanted @ products - ritz.to(like)[:, None] * ritz_vectors
            allowed = (rtol * ritz.abs()).clamp_min(_ROUNDING[like.dtype] * float(ritz_values.abs().max()))
            converged = lengths_of_rows(residuals) <= allowed
            values = torch.where(converged, ritz, torch.nan)
            vectors = torch.where(converged.to(like.device)[:, None], ritz_vectors, torch.nan)
            if converged.all() and count >= _LEAST and step >= _STEPS:
                break
            unfinished = residuals if converged.all() else residuals[~converged.to(like.device)]
            directions = orthonormalised_beside(unfinished, basis)
        if not len(directions):  # the basis is invariant
            if len(basis) >= len(ends):
                break
            directions = _drawn(len(ends) - len(basis), basis, generator)
        if len(basis) + len(directions) > most:
            kept = _nearest_the_ends(len(basis), most // 2, both_ends)
            basis, products = (rotation[:, kept].T.to(like) @ part for part in (basis, products))
    return values * scale, vectors


def _drawn(count: int, basis: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random unit vectors, orthogonal to each other and to the basis."""
    drawn = torch.randn(count, basis.shape[1], generator=generator).to(basis)
    return orthonormalised_beside(drawn, basis)


def _nearest_the_ends(size: int, count: int, both_ends: bool) -> list[int]:
    """Which of `size` ascending Ritz values a restart keeps: `count` of them."""
    smallest = count // 2 if both_ends else 0
    return [*range(smallest), *range(size - count + smallest, size)]


def _inner_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A B^T of rows, float64 on the CPU, with float64 sums in chunks."""
    chunks = zip(a.split(1 << 16, dim=1), b.split(1 << 16, dim=1), strict=True)
    return sum_of([part.double() @ other.double().T for part, other in chunks]).cpu()
