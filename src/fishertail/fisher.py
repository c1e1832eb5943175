"""The largest eigenpairs of the empirical Fisher matrix F = 1/N sum_x g_x g_x^T (eq. 4, 5), and a_x = V_1^T g_x (6).

The spectrum is carried by a few samples, which makes it cheap:

1. The norms of all gradients bound what a sample can add to F: leaving samples out changes no eigenvalue by more than
   the trace they hold. The others are the *active* samples.
2. The Gram matrix of a few samples gives start vectors. Where many are active, a *level* between the two, the samples
   that hold nearly all of the trace, improves them further.
3. Rayleigh-Ritz on the Krylov space of the active samples (`fishertail.krylov`): one to three products are
   enough where norms are uneven. All scopes (the layers and the network) share each sweep over the rows.
4. a_x over ALL samples with the final vectors; lambda = mean(a_x^2); the residual |F V - lambda V| is bounded over all
   samples, with what the inactive ones can add, and decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fishertail.gradients import NETWORK, GradientMatrix, GradientNorms
from fishertail.gram import grams, leading_pairs
from fishertail.krylov import KrylovSpace
from fishertail.row_store import RowStore
from fishertail.sweeps import combine, multiply, project

GRAM_SAMPLES = (400, 1500)  # of the start, at least and at most, within a fortieth of all
BOUND_RTOL = 1e-5  # of the eigenvalue of these samples that bounds the next one of all
LEVEL_GROWTH = 2  # samples of a level, by those of the start: else it is not worth its sweeps
LEVEL_SHARE = 1 / 8  # of all samples: the largest level
LEVEL_LEFT_OUT = 1e-2  # of the trace, by the samples that a level leaves out or draws from
LEVEL_DRAWN = 1000  # samples that are drawn to stand for these
OUTSIDE = 0.25  # of the residual that the tolerance allows, by the samples that are not active
GRAM_LEFT_OUT = 0.1  # of the trace, beyond which the samples of the start do not tell the gap
LEVEL_MARGIN = 1.2  # by which the next eigenvalue on all samples may exceed that on a level
START_EXTRA = 2  # vectors beyond the wanted ones: a start from one vector locked on the second of two close eigenvalues
START_MIXTURE = (1.0, 0.5, 0.3)  # of eigenvectors of the Gram matrix, from the last start vector on
GATHERED_SHARE = 0.1  # of the samples active, below which leaving them out costs more than it saves
ACTIVE_SHARE = 0.9  # beyond this share of the samples, all are taken as active


@dataclass(frozen=True)
class Eigenpairs:
    """The k largest eigenpairs of F in one scope: a layer's parameters, or those of the whole network.

    A pair with `converged` has |F V - lambda V| = `residuals` at most, and by it an estimated relative eigenvalue
    error of at most the tolerance. `certified` is a proof that it is the i-th largest: the Gram matrix of the start
    bounds the next eigenvalue from above, by what its samples have and all the trace that the others hold. Where the
    norms are still even (the first epochs) that proves nothing, and `certified` is False for a right pair, too.
    """

    eigenvalues: np.ndarray  # (k,) float64, largest first
    eigenvectors: np.ndarray  # (k, P) float32: unit vectors, in the order of the scope's parameters(), flattened
    projections: np.ndarray  # (N, p) float64: a_x for the first p pairs; the sign of V makes its mean >= 0
    residuals: np.ndarray  # (k,) float64: |F V - lambda V|, or an upper bound of it
    converged: np.ndarray  # (k,) bool
    certified: np.ndarray  # (k,) bool
    products: int  # products of F with a vector, over the active samples
    trace: float  # mean |g_x|^2: the sum of all eigenvalues


def fisher_eigenpairs(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
    projected: int | None = None,
    loss: Callable | None = None,
    device: str | torch.device | None = None,
    memory_budget: float | None = None,
    norms: GradientNorms | None = None,
) -> dict[str, Eigenpairs]:
    """The k largest eigenpairs of the empirical Fisher matrix over all samples, for each layer asked for.

    Args:
        model, images, labels, loss, device: as of `gradient_norms`.
        layers: names of layers, and "network" for all parameters together; by default all of these.
        k: how many of the largest eigenvalues.
        rtol: relative error of the eigenvalues.
        projected: for how many of the pairs a_x of all samples is wanted, each at a third of a forward and backward
            pass; all k by default. The eigenvalues of the others are those over the active samples, too low by a tenth
            of `rtol` at most, in units of the k-th.
        memory_budget: bytes for per-sample gradients, beyond model and data; half of the free memory by default. Less
            costs time, not accuracy.
        norms: what `gradient_norms` returned for the same model and data, to save that pass.

    Returns:
        a mapping of each name to its `Eigenpairs`. Where gradients are zero, eigenvalues and a_x are 0; where one is
        not finite, F is not defined and the eigenvalues are infinite with converged = False.

    Raises:
        UnsupportedModelError, ValueError: as of `gradient_norms`; k larger than the number of samples or parameters.
    """
    with GradientMatrix(model, images, labels, loss=loss, device=device) as matrix:
        scopes = scopes_of(matrix, layers)
        needed = layers_of(scopes)
        store = RowStore(matrix, needed, memory_budget, reserved=_reserved(len(matrix)))
        if norms is None or not needed <= set(norms.layers):
            norms = matrix.norms(needed, keep=store.keep)
        return solve(store, scopes, norms, k=k, rtol=rtol, projected=projected)


def scopes_of(matrix: GradientMatrix, names: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The layers that each name stands for: itself, or all of them for "network". All names by default."""
    known = {layer: (layer,) for layer in matrix.layers} | {NETWORK: matrix.layers}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"layers: among {', '.join(known)} expected, found {', '.join(map(repr, unknown))}")
    return {name: layers for name, layers in known.items() if names is None or name in names}


def layers_of(scopes: Mapping[str, tuple[str, ...]]) -> set[str]:
    """All layers that some scope stands for."""
    return {layer for layers in scopes.values() for layer in layers}


def solve(
    store: RowStore,
    scopes: Mapping[str, tuple[str, ...]],
    norms: GradientNorms,
    *,
    k: int = 1,
    rtol: float = 1e-4,
    projected: int | None = None,
    keep: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Eigenpairs]:
    """The eigenpairs of all `scopes` at once.

    Args:
        store: of an open gradient matrix, with rows of all layers of the scopes.
        scopes: see `scopes_of`.
        norms: of all samples and of these layers at least.
        keep: for each scope, which samples (N,) bool make up F; all by default. F is the mean over them, a_x is
            given for all samples.

    Others as of `fisher_eigenpairs`.
    """
    matrix = store.matrix
    smallest = min(sum(matrix.sizes[layer] for layer in layers) for layers in scopes.values())
    if not 1 <= k <= min(len(matrix), smallest):
        raise ValueError(f"k: 1 to {min(len(matrix), smallest)} (samples, parameters of a layer) expected, found {k}")
    projected = k if projected is None else projected
    if not 0 <= projected <= k:
        raise ValueError(f"projected: 0 to {k} (k) expected, found {projected}")
    problems = {
        name: _Problem.of(matrix, layers, norms, None if keep is None else keep[name], k, projected, rtol)
        for name, layers in scopes.items()
    }
    solvable = {name: problem for name, problem in problems.items() if 0 < problem.trace < np.inf}
    solutions = {name: problem.degenerate() for name, problem in problems.items() if name not in solvable}
    if solvable:
        solutions |= _solve(store, solvable)
    return {name: solutions[name] for name in scopes}


@dataclass(frozen=True)
class _Problem:
    """One scope's eigenproblem, in units in which its trace is 1."""

    layers: tuple[str, ...]
    parameters: int
    shares: torch.Tensor  # (N,) float64: the share of the trace that each sample holds; 0 for those left out
    weights: torch.Tensor  # (N,) float64: what each gradient is multiplied with: 1 / sqrt(N * trace), or 0
    samples: int  # that make up F
    trace: float
    k: int
    projected: int
    rtol: float

    @classmethod
    def of(cls, matrix, layers, norms, keep, k, projected, rtol) -> "_Problem":
        columns = [norms.layers.index(layer) for layer in layers]
        squares = torch.from_numpy(np.square(norms.per_layer[:, columns]).sum(1))
        kept = torch.ones(len(squares), dtype=torch.bool) if keep is None else torch.from_numpy(np.asarray(keep))
        squares = torch.where(kept, squares, 0.0)
        samples = int(kept.sum())
        total = float(squares.sum())
        usable = 0 < total < np.inf
        weights = kept.double() / np.sqrt(total) if usable else kept.double()
        shares = squares / total if usable else squares
        parameters = sum(matrix.sizes[layer] for layer in layers)
        return cls(layers, parameters, shares, weights, samples, total / max(samples, 1), k, projected, rtol)

    def degenerate(self) -> Eigenpairs:
        """The outcome where all gradients are zero, or F is not defined."""
        finite = self.trace == 0
        value = 0.0 if finite else np.inf
        return Eigenpairs(
            eigenvalues=np.full(self.k, value),
            eigenvectors=np.zeros((self.k, self.parameters), dtype=np.float32),
            projections=np.zeros((len(self.shares), self.projected)),
            residuals=np.full(self.k, value),
            converged=np.full(self.k, finite),
            certified=np.full(self.k, finite),
            products=0,
            trace=self.trace,
        )


@dataclass(frozen=True)
class _Start:
    """Where the iteration of a scope begins, by what a part of the samples says."""

    vectors: torch.Tensor  # (b, P)
    value: float  # the k-th eigenvalue
    next_value: float  # the one after it
    stands_for_all: bool = True  # whether the two are worth anything

    def following(self) -> float | None:
        """The eigenvalue after the wanted ones, with a margin; None where it may be as large."""
        following = LEVEL_MARGIN * self.next_value
        return following if self.stands_for_all and following < self.value else None

    def enough(self, k: int) -> torch.Tensor:
        """The wanted vectors alone, where the next eigenvalue is clearly lower."""
        return self.vectors if self.following() is None else self.vectors[:k]


def _solve(store: RowStore, problems: dict[str, _Problem]) -> dict[str, Eigenpairs]:
    samples = len(store.matrix)
    important, factor = _gram_sample(problems, samples)
    gram_matrices = {
        name: gram * torch.outer(*2 * [problems[name].weights[important]])
        for name, gram in grams(store, _layers(problems), important).items()
    }
    starts = _starts_from_grams(store, problems, gram_matrices, important, factor)
    level, factor = _level(problems, samples)
    if len(level) > LEVEL_GROWTH * len(important):
        starts = _improved(store, problems, starts, level, factor)

    solutions: dict[str, Eigenpairs] = {}
    pending = problems
    for left_out in (_by_residual, _by_eigenvalue):
        active = _active_samples(pending, {name: left_out(p, starts[name]) for name, p in pending.items()})
        weights = {name: problem.weights[active] for name, problem in pending.items()}
        trace_left_out = {name: float(1 - problem.shares[active].sum()) for name, problem in pending.items()}
        spaces = _iterated(store, pending, starts, active, weights, trace_left_out)
        outside = _projections_outside(store, pending, spaces, active)
        for name, problem in pending.items():
            solutions[name] = _eigenpairs(
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
        starts = {name: _start_from(spaces[name]) for name in pending}
    return solutions


def _iterated(store, problems, starts, index, weights, trace_left_out) -> dict[str, KrylovSpace]:
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
        )
        for name, problem in problems.items()
    }
    squares = {name: part.square().to(store.device) for name, part in weights.items()}
    while unfinished := {name: space for name, space in spaces.items() if not space.finished()}:
        directions = {name: space.directions() for name, space in unfinished.items()}
        projections, images = multiply(store, _layers(problems), index, directions, squares)
        for name, space in unfinished.items():
            space.expand(directions[name], projections[name], images[name])
    return spaces


def _reserved(samples: int) -> int:
    """Rows of how many samples are multiplied more than once or twice."""
    return GRAM_SAMPLES[1] + int(LEVEL_SHARE * samples)


def _gram_sample(problems: Mapping[str, _Problem], samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples that hold nearly all of the trace, and a third as many of the others; within GRAM_SAMPLES."""
    least, most = GRAM_SAMPLES[0], max(GRAM_SAMPLES[0], min(GRAM_SAMPLES[1], samples // 40))
    largest = len(_without_the_smallest(problems, dict.fromkeys(problems, LEVEL_LEFT_OUT)))
    largest = max(3 * least // 4, min(largest, 3 * most // 4))
    return _sample(problems, largest, largest // 3)


def _level(problems: Mapping[str, _Problem], samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples that hold nearly all of the trace, and some of the others; within LEVEL_SHARE of all."""
    left_out = dict.fromkeys(problems, LEVEL_LEFT_OUT)
    largest, most = len(_without_the_smallest(problems, left_out)), int(LEVEL_SHARE * samples)
    largest = min(largest, most - min(LEVEL_DRAWN, most // 2))
    return _sample(problems, largest, min(LEVEL_DRAWN, most - largest))


def _sample(problems: Mapping[str, _Problem], largest: int, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples of largest norm in any scope, and some of the others, drawn in proportion to their squared norms.

    Drawn uniformly, a few large ones of those that were left would decide what the others stand for.

    Returns:
        their ascending positions, and by how much each gradient is to be multiplied so that those drawn stand for all
        they were drawn from.
    """
    shares = torch.stack([problem.shares for problem in problems.values()])
    order = torch.argsort(shares.amax(0), descending=True)
    rest = order[largest:]
    factor = torch.zeros(shares.shape[1], dtype=torch.float64)
    factor[order[:largest]] = 1.0
    if len(rest):
        shares = shares[:, rest]
        probability = (shares / shares.sum(1, keepdim=True).clamp_min(1e-300)).mean(0) + 1e-3 / len(rest)
        steps = (probability.cumsum(0) / probability.sum() * drawn + 0.5).floor()  # one at each of equal steps
        counts = torch.diff(steps, prepend=steps.new_zeros(1))
        factor[rest] = (counts * probability.sum() / (drawn * probability)).sqrt()
    index = factor.nonzero().flatten()
    return index, factor[index]


def _starts_from_grams(store, problems, gram_matrices, index, factor) -> dict[str, _Start]:
    """Leading eigenvectors of a few samples, weighted by `factor` to stand for all."""
    coefficients, values = {}, {}
    for name, gram in gram_matrices.items():
        problem = problems[name]
        count = problem.k + START_EXTRA + len(START_MIXTURE) - 1
        values[name], vectors = leading_pairs(gram * torch.outer(factor, factor), count, 1e-5)
        usable = values[name] > 1e-14 * values[name][0]
        scaled = torch.where(usable, vectors / torch.where(usable, values[name], 1.0).sqrt(), 0.0)
        mixed = _mixed(scaled, problem.k)
        coefficients[name] = (mixed * (factor * problem.weights[index])[:, None]).to(store.device)
    starts = {}
    for name, vectors in combine(store, _layers(problems), index, coefficients).items():
        k, found = problems[name].k, torch.cat([values[name], torch.zeros(problems[name].k + 1)])
        held = float(problems[name].shares[index].sum())
        starts[name] = _Start(vectors, float(found[k - 1]), float(found[k]), held > 1 - GRAM_LEFT_OUT)
    return starts


def _mixed(coefficients: torch.Tensor, k: int) -> torch.Tensor:
    """The first k + START_EXTRA columns, the last of them mixed with those that follow."""
    start = coefficients[:, : k + START_EXTRA].clone()
    following = coefficients[:, k + START_EXTRA :]
    for weight, column in zip(START_MIXTURE[1:], following.T, strict=False):
        start[:, -1] += weight * column
    return start


def _improved(store, problems, starts, level, factor) -> dict[str, _Start]:
    """The same by iterating on more samples, from all vectors of `starts`."""
    starts = {name: replace(start, stands_for_all=False) for name, start in starts.items()}
    weights = {name: problem.weights[level] * factor for name, problem in problems.items()}
    nothing = dict.fromkeys(problems, 0.0)  # those drawn stand for the others
    spaces = _iterated(store, problems, starts, level, weights, nothing)
    return {name: _start_from(space) for name, space in spaces.items()}


def _start_from(space: KrylovSpace) -> _Start:
    return _Start(space.ritz_vectors, float(space.values[-1]), space.next_value or 0.0)


def _by_residual(problem: _Problem, start: _Start) -> float:
    """The trace that may be left out where it only adds to a residual r: by 2 r^2 / gap it counts by its square."""
    if problem.projected < problem.k:  # without their a_x, the trace is also what the eigenvalue may lack
        return _by_eigenvalue(problem, start)
    gap = max(start.value - start.next_value, 0.01 * start.value)
    return OUTSIDE * (0.5 * problem.rtol * start.value * gap) ** 0.5


def _by_eigenvalue(problem: _Problem, start: _Start) -> float:
    """The trace that may be left out so that no eigenvalue changes by more than a part of the tolerance."""
    return 0.1 * problem.rtol * start.value


def _active_samples(problems: Mapping[str, _Problem], left_out: Mapping[str, float]) -> torch.Tensor:
    """Ascending positions of the samples that are iterated on."""
    active = _without_the_smallest(problems, left_out)
    samples = len(next(iter(problems.values())).shares)
    return active if len(active) <= ACTIVE_SHARE * samples else torch.arange(samples)


def _without_the_smallest(problems: Mapping[str, _Problem], left_out: Mapping[str, float]) -> torch.Tensor:
    """Ascending positions of all samples but those of smallest norm that in no scope hold more than `left_out`."""
    wanted = torch.zeros(len(next(iter(problems.values())).shares), dtype=torch.bool)
    for name, problem in problems.items():
        order = torch.argsort(problem.shares)
        smallest = int((problem.shares[order].cumsum(0) <= left_out[name]).sum())
        wanted[order[smallest:]] = True
    return wanted.nonzero().flatten()


def _projections_outside(store, problems, spaces, active) -> dict[str, torch.Tensor]:
    """G V (n, p) of the samples that are not active."""
    samples = len(store.matrix)
    outside = torch.ones(samples, dtype=torch.bool)
    outside[active] = False
    vectors = {name: spaces[name].vectors()[: problem.projected] for name, problem in problems.items()}
    vectors = {name: part for name, part in vectors.items() if len(part)}
    if len(active) < GATHERED_SHARE * samples:
        everything = project(store, _layers(problems), torch.arange(samples), vectors)
        return {name: part[outside.to(part.device)] for name, part in everything.items()}
    return project(store, _layers(problems), outside.nonzero().flatten(), vectors)


def _eigenpairs(problem, space, active, outside, important, gram) -> Eigenpairs:
    """Put together what is returned: signs, a_x over all samples, eigenvalues, residual bounds, certificates."""
    inactive = torch.ones(len(problem.shares), dtype=torch.bool)
    inactive[active] = False
    of_active = space.projections().cpu()
    projections = torch.empty(len(inactive), problem.projected, dtype=torch.float64)
    projections[active] = of_active[:, : problem.projected]
    if problem.projected:
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


def _next_at_most(problem: _Problem, important: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """(k,) upper bounds of the eigenvalues after each, by Weyl: that of a few samples, and the trace of the others."""
    others = (1 - problem.shares[important].sum()).clamp_min(0)
    if others > 0.5:  # hopeless: that is more than half of what all eigenvalues add up to
        return torch.full((problem.k,), torch.inf, dtype=torch.float64)
    values = leading_pairs(gram, problem.k + 1, BOUND_RTOL)[0] * (1 + 2 * BOUND_RTOL)
    following = torch.cat([values, values.new_zeros(problem.k + 1)])[1 : problem.k + 1]
    return (following + others) * problem.trace


def _layers(problems: Mapping[str, _Problem]) -> dict[str, tuple[str, ...]]:
    return {name: problem.layers for name, problem in problems.items()}
