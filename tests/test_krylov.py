"""Rayleigh-Ritz on a Krylov space, alone, on matrices whose spectrum is known."""

import pytest
import torch

from fishertail.fisher.krylov import KrylovSpace


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


def matrix_with(spectrum: torch.Tensor, vectors: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 rows whose F has these eigenvalues, and vectors near the leading eigenvectors to start from."""
    generator = torch.Generator().manual_seed(0)
    size, samples = len(spectrum), 4 * len(spectrum)
    left = torch.linalg.qr(torch.randn(samples, size, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    start = right[:, :vectors].T + 0.05 * torch.randn(vectors, size, generator=generator, dtype=torch.float64)
    return ((left * spectrum.sqrt()) @ right.T).float(), start.float()
