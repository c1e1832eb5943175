"""`solve`: the largest eigenpairs of several scopes at once, within a memory budget.

A few samples carry the spectrum, which makes it cheap:

1. The norms of all gradients bound what a sample can add to F: leaving samples out changes no eigenvalue by more than
   the trace they hold. The samples that are not left out are the *active* ones.
2. The Gram matrix of a few samples gives the start vectors. If many are active, a *level* between the two, the samples
   that hold nearly all of the trace, improves the start further.
3. If the active samples are few, their Gram matrix gives the eigenpairs; else Rayleigh-Ritz on their Krylov space
   (`fishertail.fisher.krylov`), where one to three products are enough if the norms are uneven. All scopes (the layers
   and the network) share each sweep over the rows.
4. a_x is computed over ALL samples with the final vectors, and lambda = mean(a_x^2). Whether a pair has converged is
   decided by an upper bound of the residual |F V - lambda V| over all samples, the inactive ones included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fishertail.fisher.eigenproblem import Eigenproblem, Request, active_samples, squares_of
from fishertail.fisher.gram_space import gram_is_cheaper, gram_spaces
from fishertail.fisher.krylov import KrylovSpace
from fishertail.fisher.memory_plan import MemoryPlan, memory_plan
from fishertail.fisher.operator import GradientOperator
from fishertail.fisher.result import Eigenpairs, degenerate
from fishertail.fisher.scope import Scope
from fishertail.fisher.start import (
    START_EXTRA,
    Start,
    WeightedSample,
    by_eigenvalue,
    by_residual,
    gram_has_all,
    gram_sample,
    level_sample,
    reserved,
    starts_from_grams,
)
from fishertail.gradients.cache import RowCache
from fishertail.gradients.matrix import GradientMatrix, GradientNorms
from fishertail.gradients.memory_budget import resolved_budget

LEVEL_GROWTH = 2  # ratio of the samples of a level to those of the start, below which it is not worth its sweeps
GATHERED_SHARE = 0.1  # share of active samples below which leaving them out of the last sweep costs more than it saves


def solve(
    matrix: GradientMatrix,
    scopes: Mapping[str, tuple[str, ...]],
    norms: GradientNorms | None = None,
    *,
    k: int = 1,
    rtol: float = 1e-4,
    projected: int | None = None,
    keep: Mapping[str, NDArray[np.bool_]] | None = None,
    memory_budget: float | None = None,
) -> dict[str, Eigenpairs]:
    """The eigenpairs of all `scopes`.

    Args:
        matrix: an open one.
        scopes: the layers that each name stands for.
        norms: of all samples and at least these layers; computed if they are not at hand.
        keep: for each scope, which samples (N,) make up F; by default all. F is the mean over them, but a_x is
            returned for all samples.
        k, rtol, projected: see `fisher_eigenpairs`.
        memory_budget: bytes, see `fisher_eigenpairs`; by default that of the matrix.

    Raises:
        ValueError: k or `projected` is out of range, or the budget too small.
    """
    request = Request.checked(k, projected, rtol, len(matrix))
    sizes = {name: sum(matrix.sizes[layer] for layer in layers) for name, layers in scopes.items()}
    budget = resolved_budget(matrix.memory_budget if memory_budget is None else memory_budget, matrix.device)
    plan = memory_plan(matrix, sizes, k, budget)
    needed = {layer for layers in scopes.values() for layer in layers}
    if norms is not None and not needed <= set(norms.layers):
        norms = None
    found: dict[str, Eigenpairs] = {}
    for names in plan.groups:
        group = {name: scopes[name] for name in names}
        own = {layer for layers in group.values() for layer in layers}
        cache = RowCache(matrix, own, plan.rows, reserved=reserved(len(matrix)))
        if norms is None and not gram_has_all(len(matrix)):
            norms = matrix.norms(needed, keep=cache.keep)
        found |= JointSolver(cache, plan).solve(_scopes(cache, group, norms, keep, request, plan))
    return {name: found[name] for name in scopes}


def _scopes(
    cache: RowCache,
    group: Mapping[str, tuple[str, ...]],
    norms: GradientNorms | None,
    keep: Mapping[str, NDArray[np.bool_]] | None,
    request: Request,
    plan: MemoryPlan,
) -> list[Scope]:
    """The scopes of a group with their problems; without norms, these come from Gram matrices of all samples."""
    squares: list[torch.Tensor]
    grams: Sequence[torch.Tensor | None]
    if norms is None:
        for batch in cache.matrix.batches(layers=cache.layers):
            cache.keep(batch)
        everything = torch.arange(len(cache.matrix))
        found = GradientOperator(cache, everything, list(group.values())).grams(plan.gathered)
        squares, grams = [gram.diagonal() for gram in found], found
    else:
        squares, grams = [squares_of(norms, layers) for layers in group.values()], [None] * len(group)
    scopes = []
    for (name, layers), part, gram in zip(group.items(), squares, grams, strict=True):
        parameters = sum(cache.matrix.sizes[layer] for layer in layers)
        kept = None if keep is None else keep[name]
        scopes.append(Scope(name, Eigenproblem.of(layers, parameters, part, kept, request), gram))
    return scopes


class JointSolver:
    """Solves several scopes in the same sweeps over the rows.

    Args:
        cache: of the rows of all layers of these scopes.
        plan: how much memory vectors, Gram matrices and gathered rows may take.
    """

    def __init__(self, cache: RowCache, plan: MemoryPlan) -> None:
        self._cache, self._plan = cache, plan
        self._samples = len(cache.matrix)

    def solve(self, scopes: Sequence[Scope]) -> dict[str, Eigenpairs]:
        """The eigenpairs of all scopes by name."""
        for scope in scopes:
            if not scope.problem.solvable:
                scope.found = degenerate(scope.problem)
        if solvable := [scope for scope in scopes if scope.problem.solvable]:
            self._solve(solvable)
        return {scope.name: scope.found for scope in scopes}

    def _solve(self, scopes: Sequence[Scope]) -> None:
        sample = gram_sample(_problems(scopes), self._samples)
        grams = self._grams(scopes, sample.index)
        for scope, gram in zip(scopes, grams, strict=True):
            scope.take_start_gram(sample.index, gram)
        if len(sample.index) == self._samples:
            self._solve_by_gram(scopes, sample.index, grams)
            scopes = [scope for scope in scopes if not scope.converged]
        if scopes:
            self._find_starts(scopes, sample)
            self._solve_on_active(scopes)

    def _grams(self, scopes: Sequence[Scope], index: torch.Tensor) -> list[torch.Tensor]:
        """G G^T (n, n) of the samples at `index` in each scope."""
        at_hand = [scope.gram_of_all for scope in scopes if scope.gram_of_all is not None]
        if len(at_hand) == len(scopes) and len(index) == self._samples:
            return at_hand
        return self._operator(scopes, index).grams(self._plan.gathered)

    def _solve_by_gram(self, scopes: Sequence[Scope], index: torch.Tensor, grams: Sequence[torch.Tensor]) -> None:
        """The eigenpairs from the Gram matrices of all samples."""
        spaces = gram_spaces(self._operator(scopes, index), _problems(scopes), grams)
        for scope, space in zip(scopes, spaces, strict=True):
            scope.space = space
            scope.finish(index, None)

    def _find_starts(self, scopes: Sequence[Scope], sample: WeightedSample) -> None:
        """Start vectors from the Gram matrices, improved on a level if that is clearly larger."""
        problems = _problems(scopes)
        starts = starts_from_grams(self._cache, problems, [scope.start_gram for scope in scopes], sample)
        for scope, start in zip(scopes, starts, strict=True):
            scope.start = start
        level = level_sample(problems, self._samples)
        if len(level.index) > LEVEL_GROWTH * len(sample.index):
            for scope in scopes:
                scope.start = replace(scope.start, stands_for_all=False)
            weights = [problem.weights[level.index] * level.factor for problem in problems]
            nothing = [0.0] * len(scopes)  # the samples that were drawn stand for the others
            for scope, space in zip(scopes, self._iterated(scopes, level.index, weights, nothing), strict=True):
                scope.start = Start.from_space(space, scope.start.complete)

    def _solve_on_active(self, scopes: Sequence[Scope]) -> None:
        """The eigenpairs from the active samples; once more with more of them where the others add too much."""
        for left_out in (by_residual, by_eigenvalue):
            active = active_samples(_problems(scopes), [left_out(scope.problem, scope.start) for scope in scopes])
            active = self._cache.matrix.of_whole_samples(active)
            self._find_spaces(scopes, active)
            of_others = self._projections_of_others(scopes, active)
            for scope, part in zip(scopes, of_others, strict=True):
                scope.finish(active, part)
            scopes = [scope for scope in scopes if scope.lacks_samples]
            if not scopes or len(active) == self._samples:
                return
            for scope in scopes:
                scope.start = Start.from_space(scope.space, scope.start.complete)

    def _find_spaces(self, scopes: Sequence[Scope], active: torch.Tensor) -> None:
        """The eigenpairs over the active samples, by their Gram matrices or by iteration."""
        problems, plan = _problems(scopes), self._plan
        if gram_is_cheaper(self._cache, problems, len(active), plan.vectors, plan.gathered):
            operator = self._operator(scopes, active)
            for scope, space in zip(
                scopes, gram_spaces(operator, problems, operator.grams(plan.gathered)), strict=True
            ):
                scope.space = space
            return
        weights = [problem.weights[active] for problem in problems]
        outside = [max(float(1 - problem.shares[active].sum()), 0.0) for problem in problems]
        for scope, krylov in zip(scopes, self._iterated(scopes, active, weights, outside), strict=True):
            scope.space = krylov

    def _iterated(
        self,
        scopes: Sequence[Scope],
        index: torch.Tensor,
        weights: Sequence[torch.Tensor],
        outside: Sequence[float],
    ) -> list[KrylovSpace]:
        """Multiply until every space has finished; those that have are left out of further sweeps.

        Args:
            index: the samples that are iterated on.
            weights: w_x (n,) float64 of these.
            outside: what other samples may add to a residual.
        """
        spaces = [
            KrylovSpace(
                scope.start.enough(scope.problem.k),
                of_scope.to(self._cache.device),
                k=scope.problem.k,
                extra=START_EXTRA,
                rtol=scope.problem.rtol,
                following=scope.start.following(),
                outside=added,
                blocks=self._plan.blocks,
                scouted=self._plan.room > 0 and not scope.start.complete,
                room=self._plan.room,
            )
            for scope, of_scope, added in zip(scopes, weights, outside, strict=True)
        ]
        squares = [of_scope.square().to(self._cache.device) for of_scope in weights]
        while unfinished := [number for number, space in enumerate(spaces) if not space.finished()]:
            operator = self._operator([scopes[number] for number in unfinished], index)
            directions = [spaces[number].directions() for number in unfinished]
            found = operator.multiply(directions, [squares[number] for number in unfinished])
            for number, *parts in zip(unfinished, directions, *found, strict=True):
                spaces[number].expand(*parts)
        return spaces

    def _projections_of_others(self, scopes: Sequence[Scope], active: torch.Tensor) -> list[torch.Tensor | None]:
        """G V (n, p) of the samples that are not active; None where there are none, or a_x is not wanted."""
        others = torch.ones(self._samples, dtype=torch.bool)
        others[active] = False
        projected = [scope for scope in scopes if scope.problem.projected]
        if not others.any() or not projected:
            return [None] * len(scopes)
        everything = len(active) < GATHERED_SHARE * self._samples
        index = torch.arange(self._samples) if everything else others.nonzero().flatten()
        vectors = [scope.space.vectors()[: scope.problem.projected] for scope in projected]
        parts = self._operator(projected, index).project(vectors)
        found = {
            scope.name: part[others.to(part.device)] if everything else part
            for scope, part in zip(projected, parts, strict=True)
        }
        return [found.get(scope.name) for scope in scopes]

    def _operator(self, scopes: Sequence[Scope], index: torch.Tensor) -> GradientOperator:
        return GradientOperator(self._cache, index, [scope.problem.layers for scope in scopes])


def _problems(scopes: Sequence[Scope]) -> list[Eigenproblem]:
    return [scope.problem for scope in scopes]
