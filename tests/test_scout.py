"""Scouts: a random vector shows the eigenvalues that a start has nothing of, and bounds what it may hide."""

import pytest
import torch

from fishertail.fisher.krylov import MAX_PRODUCTS, KrylovSpace
from fishertail.fisher.scout import Chain


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_no_more_is_hidden_than_the_bound(steps, seed):
    """The whole spectrum is at hand here, and the last eigenvalues are what a chain of few steps has not seen."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(300, generator=generator, dtype=torch.float64).pow(3)
    start = torch.randn(300, generator=generator, dtype=torch.float64)
    start /= start.norm()
    chain = Chain(values, start, steps)
    ritz = torch.linalg.eigvalsh(
        torch.diag(torch.tensor(chain._alphas))
        + torch.diag(torch.tensor(chain._betas[1:-1]), 1)
        + torch.diag(torch.tensor(chain._betas[1:-1]), -1)
    )
    bounds = []
    for theta in torch.linspace(float(ritz.max()) + 0.01, 1.5, 20).tolist():
        bounds.append(chain.hidden_at_most(theta, 0.0))
        assert float(start[values >= theta].square().sum()) <= bounds[-1]
    assert bounds == sorted(bounds, reverse=True)


def test_the_bound_is_reached_where_all_that_is_hidden_lies_at_one_place():
    values = torch.tensor([1.0, 0.2, 0.1, 0.0], dtype=torch.float64)
    masses = torch.tensor([0.001, 0.3, 0.3, 0.399], dtype=torch.float64)
    chain = Chain(values, masses.sqrt(), 3)
    assert chain.hidden_at_most(1.0, 0.0) == pytest.approx(0.001, rel=1e-6)


def blocks(scouted: bool, outside: float = 0.0) -> KrylovSpace:
    """F with an eigenvalue for each of 300 axes, started from exact eigenvectors that are not the largest ones."""
    values = torch.cat([torch.tensor([1.0, 0.7, 0.6, 0.5]), torch.linspace(0.4, 0.01, 296)])
    rows = torch.diag(values.sqrt())
    start = torch.eye(300)[[1, 2, 3]]
    space = KrylovSpace(
        start, torch.ones(300, dtype=torch.float64), k=1, extra=2, rtol=1e-4, outside=outside, scouted=scouted
    )
    while not space.finished():
        directions = space.directions()
        space.expand(directions, (rows @ directions.T).double(), directions @ rows.T @ rows)
    return space


def test_a_start_of_other_blocks_ends_in_the_largest_with_a_scout():
    assert float(blocks(scouted=False).values[0]) == pytest.approx(0.7)
    found = blocks(scouted=True)
    assert float(found.values[0]) == pytest.approx(1, rel=1e-4)
    assert found.converged(found.residuals).all()


def test_a_pair_that_a_scout_has_not_settled_has_not_converged(monkeypatch):
    monkeypatch.setattr("fishertail.fisher.krylov.MAX_PRODUCTS", 2)
    found = blocks(scouted=True)
    assert found.product_count < MAX_PRODUCTS
    assert not found.converged(torch.zeros(1, dtype=torch.float64)).any()


def test_what_other_samples_add_does_not_keep_a_scout_going():
    alone, beside = blocks(scouted=True), blocks(scouted=True, outside=0.01)  # with which no pair meets the tolerance
    assert beside.product_count <= 2 * alone.product_count
    assert beside.converged(beside.residuals).all()
    assert float(beside.values[0]) == pytest.approx(1, rel=1e-3)


def test_a_scout_begins_again_where_the_basis_does(monkeypatch):
    restarts = []
    original = KrylovSpace._restart
    monkeypatch.setattr(KrylovSpace, "_restart", lambda space, room: (restarts.append(1), original(space, room))[1])
    values = torch.cat([torch.ones(1), torch.linspace(0.8, 0.1, 1999)])
    rows = torch.diag(values.sqrt())
    start = torch.eye(2000)[[1, 2, 3]]
    space = KrylovSpace(start, torch.ones(2000, dtype=torch.float64), k=1, extra=2, rtol=1e-4, scouted=True, blocks=3)
    while not space.finished():
        directions = space.directions()
        space.expand(directions, (rows @ directions.T).double(), directions @ rows.T @ rows)
        basis = space._basis.double()
        assert (basis @ basis.T - torch.eye(len(basis))).abs().max() < 1e-5
    assert restarts
    assert float(space.values[0]) == pytest.approx(1, rel=1e-4)
    assert space.converged(space.residuals).all()
