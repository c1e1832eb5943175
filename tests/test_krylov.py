"""Rayleigh-Ritz on a Krylov space, alone, on matrices whose spectrum is known."""

import pytest
import torch

from fishertail.fisher.krylov import KrylovSpace, orthonormalised_beside


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("k", "vectors"), [(1, 1), (1, 3), (5, 1), (5, 7)])
@pytest.mark.parametrize("rtol", [1e-4, 1e-6])
def test_the_basis_stays_orthonormal(ratio, k, vectors, rtol):
    """Residuals of one Krylov space are parallel up to rounding; made orthonormal once, they spoiled the basis.

    On a real checkpoint the largest eigenvalue then came out 40 times too large, not converged.
    """
    spectrum = ratio ** torch.arange(200, dtype=torch.float64)
    spectrum /= spectrum.sum()
    rows, start = matrix_with(spectrum, vectors)
    space = KrylovSpace(start, torch.ones(len(rows), dtype=torch.float64), k=k, extra=2, rtol=rtol)
    while not space.finished():
        directions = space.directions()
        space.expand(directions, (rows @ directions.T).double(), (directions @ rows.T) @ rows)
        basis = space._basis.double()
        assert (basis @ basis.T - torch.eye(len(basis))).abs().max() < 1e-5
    assert space.converged(space.residuals).all()
    assert torch.allclose(space.values, spectrum[:k], rtol=2 * rtol, atol=0)


@pytest.mark.parametrize("share", [0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_a_direction_that_is_all_rounding_is_dropped(share, seed):
    """Of three candidates that add two directions, nothing but rounding along the basis is left as the third.

    On a real checkpoint of 724,266 parameters it was taken, 1 % of it along the basis, and the residual then stayed at
    0.5 % of lambda_1 for as many products as are allowed.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(700_000, 6, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(drawn).Q.T.float()
    basis, new = vectors[:4], vectors[4:]
    inside = torch.randn(4, generator=generator) @ basis
    candidates = torch.stack(
        [
            new[0] + 0.3 * new[1],
            new[0] - 0.2 * new[1],
            inside / inside.norm() + share * (0.6 * new[0] - 0.8 * new[1]),
        ]
    )
    found = orthonormalised_beside(candidates, basis).double()
    assert len(found) == 2
    assert (found @ basis.double().T).abs().max() < 1e-6
    assert (found @ found.T - torch.eye(2)).abs().max() < 1e-6


def matrix_with(spectrum: torch.Tensor, vectors: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 rows whose F has these eigenvalues, and vectors near the leading eigenvectors to start from."""
    generator = torch.Generator().manual_seed(0)
    size, samples = len(spectrum), 4 * len(spectrum)
    left = torch.linalg.qr(torch.randn(samples, size, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    start = right[:, :vectors].T + 0.05 * torch.randn(vectors, size, generator=generator, dtype=torch.float64)
    return ((left * spectrum.sqrt()) @ right.T).float(), start.float()
