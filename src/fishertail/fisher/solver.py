"""The largest eigenpairs of several scopes at once, within a memory budget.

The spectrum is carried by a few samples, which makes it cheap:

1. The norms of all gradients bound what a sample can add to F: leaving samples out changes no eigenvalue by more than
   the trace they hold. The others are the *active* samples.
2. The Gram matrix of a few samples gives start vectors. Where many are active, a *level* between the two, the samples
   that hold nearly all of the trace, improves them further.
3. Where the active samples are few, their Gram matrix has the eigenpairs; else Rayleigh-Ritz on their Krylov space
   (`fishertail.fisher.krylov`), where one to three products are enough if norms are uneven. All scopes (the layers and
   the network) share each sweep over the rows.
4. a_x over ALL samples with the final vectors; lambda = mean(a_x^2); the residual |F V - lambda V| is bounded over all
   samples, with what the inactive ones can add, and decides.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from fishertail.fisher.direct import GramSpace, gram_is_cheaper, gram_spaces
from fishertail.fisher.gram import grams, leading_pairs
from fishertail.fisher.krylov import KrylovSpace
from fishertail.fisher.memory import MemoryPlan, memory_plan
from fishertail.fisher.pairs import Eigenpairs, degenerate
from fishertail.fisher.problem import Problem, active_samples, layers_of_each, squares_of
from fishertail.fisher.products import multiply, project
from fishertail.fisher.start import (
    GRAM_SAMPLES,
    START_EXTRA,
    Start,
    by_eigenvalue,
    by_residual,
    gram_sample,
    level,
    reserved,
    start_from,
    starts_from_grams,
)
from fishertail.gradients.cache import RowStore
from fishertail.gradients.matrix import GradientMatrix, GradientNorms

BOUND_RTOL = 1e-5  # of the eigenvalue of these samples that bounds the next one of all
LEVEL_GROWTH = 2  # samples of a level, by those of the start: else it is not worth its sweeps
GATHERED_SHARE = 0.1  # of the samples active, below which leaving them out costs more than it saves

Problems = Mapping[str, Problem]
Space = KrylovSpace | GramSpace


def solve(
    matrix: GradientMatrix,
    scopes: Mapping[str, tuple[str, ...]],
    norms: GradientNorms | None = None,
    *,
    k: int = 1,
    rtol: float = 1e-4,
    projected: int | None = None,
    keep: Mapping[str, np.ndarray] | None = None,
    memory_budget: float | None = None,
) -> dict[str, Eigenpairs]:
    """The eigenpairs of all `scopes`.

    Args:
        matrix: an open one.
        scopes: the layers that each name stands for.
        norms: of all samples and of these layers at least; computed where they are not at hand.
        keep: for each scope, which samples (N,) bool make up F; all by default. F is the mean over them, a_x is
            given for all samples.
        memory_budget: bytes; as of `fisher_eigenpairs`.

    Others as of `fisher_eigenpairs`.
    """
    projected = k if projected is None else projected
    if not 1 <= k <= len(matrix):
        raise ValueError(f"k: 1 to {len(matrix)} (the number of samples) expected, found {k}")
    if not 0 <= projected <= k:
        raise ValueError(f"projected: 0 to {k} (k) expected, found {projected}")
    sizes = {name: sum(matrix.sizes[layer] for layer in layers) for name, layers in scopes.items()}
    plan = memory_plan(matrix, sizes, k, memory_budget)
    needed = {layer for layers in scopes.values() for layer in layers}
    if norms is not None and not needed <= set(norms.layers):
        norms = None
    solutions: dict[str, Eigenpairs] = {}
    for names in plan.groups:
        part = {name: scopes[name] for name in names}
        own = {layer for layers in part.values() for layer in layers}
        store = RowStore(matrix, own, plan.rows, reserved=reserved(len(matrix)))
        plain = None
        if norms is None and len(matrix) <= GRAM_SAMPLES[0]:  # the Gram matrix has the norms, too
            for batch in matrix.batches(layers=own):
                store.keep(batch)
            plain = grams(store, part, torch.arange(len(matrix)), plan.gathered)
            squares = {name: gram.diagonal() for name, gram in plain.items()}
        else:
            norms = matrix.norms(needed, keep=store.keep) if norms is None else norms
            squares = {name: squares_of(norms, layers) for name, layers in part.items()}
        problems = {
            name: Problem.of(
                layers, sizes[name], squares[name], None if keep is None else keep[name], k, projected, rtol
            )
            for name, layers in part.items()
        }
        solvable = {name: problem for name, problem in problems.items() if 0 < problem.trace < np.inf}
        solutions |= {name: degenerate(problem) for name, problem in problems.items() if name not in solvable}
        if solvable:
            solutions |= _solve(store, solvable, plan, plain)
    return {name: solutions[name] for name in scopes}


def _solve(
    store: RowStore, problems: Problems, plan: MemoryPlan, plain: Mapping[str, torch.Tensor] | None
) -> dict[str, Eigenpairs]:
    """
    Args:
        plain: the Gram matrices of all samples, where these are so few that they were made.
    """
    samples = len(store.matrix)
    important, factor = gram_sample(problems, samples)
    if plain is None or len(important) < samples:
        plain = grams(store, layers_of_each(problems), important, plan.gathered)
    gram_matrices = {
        name: plain[name] * torch.outer(*2 * [problem.weights[important]]) for name, problem in problems.items()
    }
    solutions: dict[str, Eigenpairs] = {}
    pending = dict(problems)
    if len(important) == samples:
        spaces = gram_spaces(store, problems, important, plain)
        for name, space in spaces.items():
            found = _put_together(problems[name], space, important, None, important, gram_matrices[name])
            solutions[name] = found
            if found.converged.all():
                del pending[name]
        if not pending:
            return solutions
    gram_matrices = {name: gram_matrices[name] for name in pending}
    starts = starts_from_grams(store, pending, gram_matrices, important, factor)
    between, factor = level(pending, samples)
    if len(between) > LEVEL_GROWTH * len(important):
        starts = _improved(store, pending, starts, between, factor, plan.blocks)

    for left_out in (by_residual, by_eigenvalue):
        active = active_samples(pending, {name: left_out(p, starts[name]) for name, p in pending.items()})
        spaces: Mapping[str, Space]
        if gram_is_cheaper(store, pending, len(active), plan.vectors, plan.gathered):
            spaces = gram_spaces(store, pending, active, grams(store, layers_of_each(pending), active, plan.gathered))
        else:
            weights = {name: problem.weights[active] for name, problem in pending.items()}
            trace_left_out = {name: float(1 - problem.shares[active].sum()) for name, problem in pending.items()}
            spaces = _iterated(store, pending, starts, active, weights, trace_left_out, plan.blocks)
        outside = _projections_outside(store, pending, spaces, active)
        for name, problem in pending.items():
            solutions[name] = _put_together(
                problem, spaces[name], active, outside.get(name), important, gram_matrices[name]
            )
        # converged on the active samples, but not for what the others may add: again with more of them
        pending = {
            name: problem
            for name, problem in pending.items()
            if spaces[name].converged(spaces[name].residuals).all() and not solutions[name].converged.all()
        }
        if not pending or len(active) == samples:
            return solutions
        starts = {name: start_from(spaces[name]) for name in pending}
    return solutions


def _iterated(
    store: RowStore,
    problems: Problems,
    starts: Mapping[str, Start],
    index: torch.Tensor,
    weights: Mapping[str, torch.Tensor],
    trace_left_out: Mapping[str, float],
    blocks: int,
) -> dict[str, KrylovSpace]:
    """Multiply until every space has finished; those that have are left out of the sweeps."""
    spaces = {
        name: KrylovSpace(
            starts[name].enough(problem.k),
            weights[name].to(store.device),
            k=problem.k,
            extra=START_EXTRA,
            rtol=problem.rtol,
            following=starts[name].following(),
            outside=max(trace_left_out[name], 0.0),
            blocks=blocks,
        )
        for name, problem in problems.items()
    }
    squares = {name: part.square().to(store.device) for name, part in weights.items()}
    while unfinished := {name: space for name, space in spaces.items() if not space.finished()}:
        directions = {name: space.directions() for name, space in unfinished.items()}
        projections, images = multiply(store, layers_of_each(problems), index, directions, squares)
        for name, space in unfinished.items():
            space.expand(directions[name], projections[name], images[name])
    return spaces


def _improved(
    store: RowStore,
    problems: Problems,
    starts: Mapping[str, Start],
    level: torch.Tensor,
    factor: torch.Tensor,
    blocks: int,
) -> dict[str, Start]:
    """The same by iterating on more samples, from all vectors of `starts`."""
    starts = {name: replace(start, stands_for_all=False) for name, start in starts.items()}
    weights = {name: problem.weights[level] * factor for name, problem in problems.items()}
    nothing = dict.fromkeys(problems, 0.0)  # those drawn stand for the others
    spaces = _iterated(store, problems, starts, level, weights, nothing, blocks)
    return {name: start_from(space) for name, space in spaces.items()}


def _projections_outside(
    store: RowStore, problems: Problems, spaces: Mapping[str, Space], active: torch.Tensor
) -> dict[str, torch.Tensor]:
    """G V (n, p) of the samples that are not active."""
    samples = len(store.matrix)
    outside = torch.ones(samples, dtype=torch.bool)
    outside[active] = False
    if not outside.any():
        return {}
    vectors = {name: spaces[name].vectors()[: problem.projected] for name, problem in problems.items()}
    vectors = {name: part for name, part in vectors.items() if len(part)}
    if len(active) < GATHERED_SHARE * samples:
        everything = project(store, layers_of_each(problems), torch.arange(samples), vectors)
        return {name: part[outside.to(part.device)] for name, part in everything.items()}
    return project(store, layers_of_each(problems), outside.nonzero().flatten(), vectors)


def _put_together(
    problem: Problem,
    space: Space,
    active: torch.Tensor,
    outside: torch.Tensor | None,
    important: torch.Tensor,
    gram: torch.Tensor,
) -> Eigenpairs:
    """Put together what is returned: signs, a_x over all samples, eigenvalues, residual bounds, certificates."""
    inactive = torch.ones(len(problem.shares), dtype=torch.bool)
    inactive[active] = False
    of_active = space.projections().cpu()
    projections = torch.empty(len(inactive), problem.projected, dtype=torch.float64)
    projections[active] = of_active[:, : problem.projected]
    if outside is not None:
        projections[inactive] = outside.cpu()

    known = slice(problem.projected)
    means = of_active.mean(0)
    means[known] = projections.mean(0)
    signs = torch.where(means < 0, -1.0, 1.0).double()
    projections *= signs[known]
    vectors = space.vectors().cpu() * signs.to(torch.float32)[:, None]

    kept = problem.weights > 0
    values = space.values * problem.trace
    values[known] = projections[kept].square().sum(0) / problem.samples
    inactive &= kept
    added = (problem.shares[inactive].sum() * problem.trace).repeat(problem.k)
    norms = (problem.shares[inactive] * problem.trace * problem.samples).sqrt()
    added[known] = (norms[:, None] * projections[inactive].abs()).sum(0) / problem.samples
    residuals = space.residuals * problem.trace + added
    order = torch.argsort(values[known], descending=True, stable=True)
    order = torch.cat([order, torch.arange(problem.projected, problem.k)])
    return Eigenpairs(
        eigenvalues=values[order].numpy(),
        eigenvectors=vectors[order].float().numpy(),
        projections=projections[:, order[known]].numpy(),
        residuals=residuals[order].numpy(),
        converged=space.converged(residuals / problem.trace)[order].numpy(),
        certified=((values - residuals)[order] > _next_at_most(problem, important, gram)).numpy(),
        products=space.products,
        trace=problem.trace,
    )


def _next_at_most(problem: Problem, important: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """(k,) upper bounds of the eigenvalues after each, by Weyl: that of a few samples, and the trace of the others."""
    others = (1 - problem.shares[important].sum()).clamp_min(0)
    if others > 0.5:  # hopeless: that is more than half of what all eigenvalues add up to
        return torch.full((problem.k,), torch.inf, dtype=torch.float64)
    values = leading_pairs(gram, problem.k + 1, BOUND_RTOL)[0] * (1 + 2 * BOUND_RTOL)
    following = torch.cat([values, values.new_zeros(problem.k + 1)])[1 : problem.k + 1]
    return (following + others) * problem.trace
