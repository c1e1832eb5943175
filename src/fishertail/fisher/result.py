"""`Eigenpairs`: the result for a scope, put together from the active samples and the others."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fishertail.fisher.eigenproblem import Eigenproblem
from fishertail.fisher.leading_pairs import leading_pairs
from fishertail.fisher.space import Space

_BOUND_RTOL = 1e-5  # of the eigenvalues that bound the next ones


@dataclass(frozen=True, repr=False)
class Eigenpairs:
    """The k largest eigenpairs of F in one scope: a layer's parameters, or those of the whole network.

    For a pair with `converged`, |F V - lambda V| is `residuals` at most, and the relative error of the eigenvalue that
    follows from it, an estimate, is within the tolerance. `certified` is a proof that a pair is the i-th largest: the
    next eigenvalue is at most that of the start's Gram matrix plus all the trace that the other samples hold. While the
    norms are even (in the first epochs) this bound is too weak, and correct pairs are not certified either.
    """

    eigenvalues: NDArray[np.float64]  # (k,), largest first
    eigenvectors: NDArray[np.float32]  # (k, P): unit vectors, in the order of the scope's parameters(), flattened
    projections: NDArray[np.float64]  # (N, p): a_x for the first p pairs; the sign of V makes its mean >= 0
    residuals: NDArray[np.float64]  # (k,): |F V - lambda V|, or an upper bound of it
    converged: NDArray[np.bool_]  # (k,)
    certified: NDArray[np.bool_]  # (k,)
    products: int  # number of products of F with a vector, over the active samples
    trace: float  # mean |g_x|^2: the sum of all eigenvalues

    def __repr__(self) -> str:
        values, (_, parameters) = np.array2string(self.eigenvalues, precision=6), self.eigenvectors.shape
        found = f"{int(self.converged.sum())} of {len(self.converged)} converged"
        return f"Eigenpairs(eigenvalues={values}, {found}, {len(self.projections)} samples, {parameters} parameters)"


def degenerate(problem: Eigenproblem) -> Eigenpairs:
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


def eigenpairs_of(
    problem: Eigenproblem,
    space: Space,
    active: torch.Tensor,
    of_others: torch.Tensor | None,
    next_at_most: torch.Tensor,
) -> Eigenpairs:
    """The eigenpairs of a scope over all samples.

    Args:
        space: solved on the samples at `active` (ascending).
        of_others: G V (m, p) of the other samples, with the space's vectors; None where there are none.
        next_at_most: see the function of this name.
    """
    others = torch.ones(len(problem.shares), dtype=torch.bool)
    others[active] = False
    of_active = space.projections().cpu()
    projections = torch.empty(len(others), problem.projected, dtype=torch.float64)
    projections[active] = of_active[:, : problem.projected]
    if of_others is not None:
        projections[others] = of_others.cpu()

    projected = slice(problem.projected)  # the pairs whose a_x is known of all samples
    means = of_active.mean(0)
    means[projected] = projections.mean(0)
    signs = torch.where(means < 0, -1.0, 1.0).double()
    projections *= signs[projected]
    vectors = space.vectors().cpu() * signs.to(torch.float32)[:, None]

    part_of_f = problem.weights > 0
    values = space.values * problem.trace
    values[projected] = projections[part_of_f].square().sum(0) / problem.samples
    residuals = space.residuals * problem.trace + _added_residual(problem, projections, others & part_of_f)
    order = torch.argsort(values[projected], descending=True, stable=True)
    order = torch.cat([order, torch.arange(problem.projected, problem.k)])
    return Eigenpairs(
        eigenvalues=values[order].numpy(),
        eigenvectors=vectors[order].float().numpy(),
        projections=projections[:, order[projected]].numpy(),
        residuals=residuals[order].numpy(),
        converged=space.converged(residuals / problem.trace)[order].numpy(),
        certified=((values - residuals)[order] > next_at_most).numpy(),
        products=space.product_count,
        trace=problem.trace,
    )


def _added_residual(problem: Eigenproblem, projections: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(k,) what samples outside the space may add to |F V - lambda V|: mean |g_x| |a_x|, or their trace without a_x."""
    trace = problem.shares[others] * problem.trace
    added = (problem.shares[others].sum() * problem.trace).repeat(problem.k)
    norms = (trace * problem.samples).sqrt()
    added[: problem.projected] = (norms[:, None] * projections[others].abs()).sum(0) / problem.samples
    return added


def next_at_most(problem: Eigenproblem, index: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """(k,) upper bounds of the eigenvalue after each, by Weyl's inequality.

    The bound is the next eigenvalue of the samples at `index`, from W G G^T W of these, plus the trace of all others.
    """
    others = (1 - problem.shares[index].sum()).clamp_min(0)
    if others > 0.5:  # no bound: that is more than half of the sum of all eigenvalues
        return torch.full((problem.k,), torch.inf, dtype=torch.float64)
    values = leading_pairs(gram, problem.k + 1, _BOUND_RTOL)[0] * (1 + 2 * _BOUND_RTOL)
    following = torch.cat([values, values.new_zeros(problem.k + 1)])[1 : problem.k + 1]
    return (following + others) * problem.trace
