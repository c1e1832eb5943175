"""The largest eigenpairs of the empirical Fisher matrix F = 1/N sum_x g_x g_x^T (eq. 4, 5), and a_x = V_1^T g_x (6).

The spectrum is carried by a few samples, which makes it cheap:

1. The norms of all gradients bound what a sample can add to F: leaving samples out changes no eigenvalue by more than
   the trace they hold. The others are the *active* samples.
2. A Gram matrix of a few important samples gives start vectors, and lower bounds of the eigenvalues.
   Where nearly all samples are active, a few thousand that stand for all improve the start further.
3. Rayleigh-Ritz on the Krylov space of the active samples: every product F v also gives G v, so that eigenvalues,
   residuals and a_x fall out of what is already there. All scopes (the layers and the network) share each sweep.
4. a_x over ALL samples with the final vectors; lambda = mean(a_x^2); the residual |F V - lambda V| is bounded over all
   samples, with what the inactive ones can add, and returned.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch
from scipy.linalg import eigh
from torch import nn

from fishertail.gradients import NETWORK, Batch, GradientMatrix, GradientNorms
from fishertail.rows import Rows, by_layer

GRAM_SAMPLES = 400  # of the start: four times as many cost more than the products that they save
LEVEL_SAMPLES = 4000  # where more than four times as many are active, these are iterated on first
LEVEL_RTOL = 1e-2  # to this accuracy: their own sampling error is larger
LEVEL_MARGIN = 1.2  # by which the next eigenvalue on all samples may exceed that on the sample
START_EXTRA = 2  # vectors beyond the wanted ones: a start from one vector locked on the second of two close eigenvalues
START_MIXTURE = (1.0, 0.5, 0.3)  # of eigenvectors of the Gram matrix, from the last start vector on
MAX_SWEEPS = 60  # products of F with a block of vectors; beyond them a pair is returned with converged = False
RESTART = 12  # Krylov blocks that are kept before a restart
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
    projections: np.ndarray  # (N, k) float64: a_x; the sign of V makes its mean >= 0
    residuals: np.ndarray  # (k,) float64: |F V - lambda V|, or an upper bound of it
    converged: np.ndarray  # (k,) bool
    certified: np.ndarray  # (k,) bool
    products: int  # products of F with a vector
    trace: float  # mean |g_x|^2: the sum of all eigenvalues


def fisher_eigenpairs(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
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
        if norms is None or tuple(norms.layers) != matrix.layers:
            norms = matrix.norms()
        return solve(matrix, scopes, norms, k=k, rtol=rtol, memory_budget=memory_budget)


def scopes_of(matrix: GradientMatrix, names: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The layers that each name stands for: itself, or all of them for "network". All names by default."""
    known = {layer: (layer,) for layer in matrix.layers} | {NETWORK: matrix.layers}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"layers: among {', '.join(known)} expected, found {', '.join(map(repr, unknown))}")
    return {name: layers for name, layers in known.items() if names is None or name in names}


def solve(
    matrix: GradientMatrix,
    scopes: Mapping[str, tuple[str, ...]],
    norms: GradientNorms,
    *,
    k: int = 1,
    rtol: float = 1e-4,
    memory_budget: float | None = None,
    keep: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Eigenpairs]:
    """The eigenpairs of all `scopes` at once.

    Args:
        matrix: an open gradient matrix.
        scopes: see `scopes_of`.
        norms: of all samples and layers of `matrix`.
        keep: for each scope, which samples (N,) bool make up F; all by default. F is the mean over them, a_x is
            given for all samples.

    Others as of `fisher_eigenpairs`.
    """
    smallest = min(sum(matrix.sizes[layer] for layer in layers) for layers in scopes.values())
    if not 1 <= k <= min(len(matrix), smallest):
        raise ValueError(f"k: 1 to {min(len(matrix), smallest)} (samples, parameters of a layer) expected, found {k}")
    problems = {
        name: _Problem.of(matrix, layers, norms, None if keep is None else keep[name], k, rtol)
        for name, layers in scopes.items()
    }
    solvable = {name: problem for name, problem in problems.items() if 0 < problem.trace < np.inf}
    solutions = {name: problem.degenerate(len(matrix)) for name, problem in problems.items() if name not in solvable}
    if solvable:
        solutions |= _solve(matrix, solvable, memory_budget)
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
    rtol: float

    @classmethod
    def of(cls, matrix, layers, norms, keep, k, rtol) -> "_Problem":
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
        return cls(layers, parameters, shares, weights, samples, total / max(samples, 1), k, rtol)

    def sampled(self, index: torch.Tensor, factor: torch.Tensor, rtol: float) -> "_Problem":
        """The problem of some samples that stand for all."""
        weights = self.weights.clone()
        weights[index] *= factor
        return replace(self, weights=weights, rtol=rtol)

    def degenerate(self, samples: int) -> Eigenpairs:
        """The outcome where all gradients are zero, or F is not defined."""
        finite = self.trace == 0
        value = 0.0 if finite else np.inf
        return Eigenpairs(
            eigenvalues=np.full(self.k, value),
            eigenvectors=np.zeros((self.k, self.parameters), dtype=np.float32),
            projections=np.zeros((samples, self.k)),
            residuals=np.full(self.k, value),
            converged=np.full(self.k, finite),
            certified=np.full(self.k, finite),
            products=0,
            trace=self.trace,
        )


def _solve(matrix: GradientMatrix, problems: dict[str, _Problem], memory_budget: float | None) -> dict[str, Eigenpairs]:
    budget = _budget(memory_budget, matrix.device)
    important, factor = _sample(problems, len(matrix), GRAM_SAMPLES)
    starts, spectra = _start(matrix, problems, important, factor)
    active = _active_samples(problems, spectra, len(matrix))

    if len(active) > 4 * LEVEL_SAMPLES:  # the norms are even: most of the work is done on a sample of them
        sample, factor = _sample(problems, len(matrix), LEVEL_SAMPLES)
        sampled = {name: problem.sampled(sample, factor, LEVEL_RTOL) for name, problem in problems.items()}
        spaces = {name: _KrylovSpace(problem, starts[name]) for name, problem in sampled.items()}
        _iterate(matrix, sampled, spaces, _RowStore(matrix, sample, budget))
        spaces = {name: _KrylovSpace(problem, *spaces[name].to_start_from()) for name, problem in problems.items()}
    else:
        spaces = {name: _KrylovSpace(problem, starts[name]) for name, problem in problems.items()}
    store = _RowStore(matrix, active, budget)
    _iterate(matrix, problems, spaces, store)

    finals = {name: space.vectors() for name, space in spaces.items()}
    projections = {n: torch.empty(len(matrix), p.k, dtype=torch.float64) for n, p in problems.items()}
    unweighted = {n: replace(p, weights=torch.ones_like(p.weights)) for n, p in problems.items()}
    for _, index, rows in store.everything(_layers_of(problems)):
        for name, values in _project(rows, unweighted, finals, index, matrix).items():
            projections[name][index] = values.cpu()
    held = {name: problem.shares[important].sum() for name, problem in problems.items()}
    return {
        name: _eigenpairs(problem, spaces[name], projections[name], active, spectra[name], held[name])
        for name, problem in problems.items()
    }


def _iterate(matrix, problems, spaces: "dict[str, _KrylovSpace]", store: "_RowStore") -> None:
    """Multiply until every space has finished; those that have are left out of the sweeps."""
    while unfinished := {name: space for name, space in spaces.items() if not space.finished()}:
        current = {name: problems[name] for name in unfinished}
        directions = {name: space.directions() for name, space in unfinished.items()}
        projections = {n: torch.empty(len(store), v.shape[1], dtype=torch.float64) for n, v in directions.items()}
        images: dict[str, torch.Tensor] = {}
        for position, index, rows in store.batches(_layers_of(current)):
            projected = _project(rows, current, directions, index, matrix)
            for name, values in projected.items():
                projections[name][position : position + len(index)] = values.cpu()
            _accumulate(images, rows, current, projected, index, matrix)
        for name, space in unfinished.items():
            space.expand(directions[name], projections[name], images[name])


def _layers_of(problems: Mapping[str, _Problem]) -> set[str]:
    return {layer for problem in problems.values() for layer in problem.layers}


def _sample(problems: Mapping[str, _Problem], samples: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`size` samples that stand for all: half of largest norm in any scope, half at random from the others.

    Returns:
        their ascending positions, and by how much each gradient is to be multiplied so that those at random stand for
        all they were drawn from.
    """
    if samples <= size:
        return torch.arange(samples), torch.ones(samples, dtype=torch.float64)
    importance = torch.stack([problem.shares for problem in problems.values()]).amax(0)
    order = torch.argsort(importance, descending=True)
    largest, rest = order[: size // 2], order[size // 2 :]
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))[: size - size // 2]]
    factor = torch.ones(samples, dtype=torch.float64)
    factor[drawn] = (len(rest) / len(drawn)) ** 0.5
    index = torch.cat([largest, drawn]).sort().values
    return index, factor[index]


def _start(matrix, problems, index, factor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Start vectors (P, k + START_EXTRA) from the Gram matrices of a few samples, and the leading eigenvalues of these.

    The eigenvalues are of the samples as they are, so that they are lower bounds of those of F; the vectors are of the
    samples weighted by `factor`, which stand for all.
    """
    batches = list(matrix.batches(index, _layers_of(problems)))
    starts, spectra, weighted = {}, {}, {}
    for name, gram in _grams(problems, index, batches).items():
        k = problems[name].k
        spectra[name], vectors = _leading(gram, k)
        if len(index) == len(matrix):  # nothing is missing: these are the eigenvectors
            weighted[name] = _scaled(spectra[name], vectors)[:, :k]
        else:
            weighted[name] = _mixed(_scaled(*_leading(gram * torch.outer(factor, factor), k)), k) * factor[:, None]
    for batch in batches:
        part = torch.searchsorted(index, batch.index)
        _accumulate(starts, batch.rows, problems, {n: c[part] for n, c in weighted.items()}, batch.index, matrix)
    return starts, spectra


def _grams(problems: Mapping[str, _Problem], index: torch.Tensor, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """G G^T (n, n) of the samples at `index`, in the units of each problem: its eigenvalues are at most those of F."""
    grams = {name: torch.zeros(len(index), len(index), dtype=torch.float64) for name in problems}
    for layer in _layers_of(problems):
        parts = [batch.rows[layer] for batch in batches]
        gram = type(parts[0]).concatenate(parts).gram().cpu()
        for name, problem in problems.items():
            if layer in problem.layers:
                grams[name] += gram
    return {name: gram * torch.outer(*2 * [problems[name].weights[index]]) for name, gram in grams.items()}


def _leading(gram: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The leading eigenvalues, largest first, and eigenvectors (n, b): as many as a start needs, for k wanted pairs."""
    n, wanted = len(gram), k + START_EXTRA + len(START_MIXTURE) - 1
    values, vectors = eigh(gram.numpy(), subset_by_index=[max(n - wanted, 0), n - 1])
    return torch.from_numpy(values[::-1].copy()).clamp_min(0), torch.from_numpy(vectors[:, ::-1].copy())


def _scaled(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Coefficients c for which G^T c are the unit eigenvectors of F; 0 where the eigenvalue is."""
    usable = values > 1e-14 * values[0]
    return torch.where(usable, vectors / torch.where(usable, values, 1.0).sqrt(), 0.0)


def _mixed(coefficients: torch.Tensor, k: int) -> torch.Tensor:
    """The first k + START_EXTRA columns, the last of them mixed with those that follow."""
    start = coefficients[:, : k + START_EXTRA].clone()
    following = coefficients[:, k + START_EXTRA :]
    for weight, column in zip(START_MIXTURE[1:], following.T, strict=False):
        start[:, -1] += weight * column
    return start


def _active_samples(problems: Mapping[str, _Problem], values: Mapping[str, torch.Tensor], samples: int) -> torch.Tensor:
    """Ascending positions of the samples without which no scope's k-th eigenvalue changes by more than rtol / 10."""
    active = torch.zeros(samples, dtype=torch.bool)
    for name, problem in problems.items():
        lower_bound = float(values[name][min(problem.k, len(values[name])) - 1])
        order = torch.argsort(problem.shares)
        left_out = int((problem.shares[order].cumsum(0) <= 0.1 * problem.rtol * lower_bound).sum())
        active[order[left_out:]] = True
    if active.sum() > ACTIVE_SHARE * samples:
        active[:] = True
    return active.nonzero().flatten()


def _project(rows, problems, vectors, index, matrix) -> dict[str, torch.Tensor]:
    """a = G v (n, b) of each scope, in its units."""
    result = {}
    for name, problem in problems.items():
        parts = by_layer(rows, problem.layers, vectors[name], matrix.sizes)
        total = sum(layer_rows.project(vector) for layer_rows, vector in parts)
        result[name] = total * problem.weights[index].to(total)[:, None]
    return result


def _accumulate(sums, rows, problems, coefficients, index, matrix) -> None:
    """Add G^T c (P, b) of each scope to `sums`, in its units."""
    for name, problem in problems.items():
        weighted = coefficients[name] * problem.weights[index].to(coefficients[name])[:, None]
        parts = [rows[layer].combine(weighted.to(matrix.device)) for layer in problem.layers]
        vector = torch.cat(parts) if len(parts) > 1 else parts[0]
        if name in sums:
            sums[name] += vector
        else:
            sums[name] = vector


class _RowStore:
    """Rows of some samples: those of the layers that fit the budget are kept, the others computed at each sweep."""

    def __init__(self, matrix: GradientMatrix, index: torch.Tensor, budget: float):
        self._matrix, self._index = matrix, index
        bytes_of_one = next(matrix.model.parameters()).element_size() * len(index)
        self._kept_layers = set()
        for layer in sorted(matrix.layers, key=lambda layer: matrix.row_floats[layer]):
            budget -= bytes_of_one * matrix.row_floats[layer]
            if budget < 0:
                break
            self._kept_layers.add(layer)
        self._kept: list[Batch] = []

    def __len__(self) -> int:
        return len(self._index)

    def batches(self, layers: set[str]) -> Iterator[tuple[int, torch.Tensor, dict[str, Rows]]]:
        """Position in the store, sample numbers, and rows of `layers`, of each batch."""
        in_store = bool(self._kept) and layers <= self._kept[0].rows.keys()
        source = self._kept if in_store else self._matrix.batches(self._index, layers)
        kept, position = [], 0
        for batch in source:
            yield position, batch.index, batch.rows
            position += len(batch.index)
            if not self._kept:
                rows = {layer: rows for layer, rows in batch.rows.items() if layer in self._kept_layers}
                kept.append(replace(batch, rows=rows))
        self._kept = self._kept or kept

    def everything(self, layers: set[str]) -> Iterator[tuple[int, torch.Tensor, dict[str, Rows]]]:
        """The same over all samples of the matrix."""
        if len(self._index) == len(self._matrix):
            yield from self.batches(layers)
            return
        self._kept = []
        for batch in self._matrix.batches(layers=layers):
            yield int(batch.index[0]), batch.index, batch.rows


class _KrylovSpace:
    """Rayleigh-Ritz on a basis Q, with A = G Q and W = F Q at hand, in units of trace 1.

    New directions are the residuals of the wanted pairs, which span the Krylov space of the start; a restart keeps the
    Ritz vectors and loses nothing of A and W.
    """

    def __init__(self, problem: _Problem, start: torch.Tensor, following: float = 0.0):
        """Start from the columns of `start` (P, b); `following` is the eigenvalue after the wanted ones, if known."""
        self._k, self._rtol, self._following_known = problem.k, problem.rtol, following
        self._next = start
        self._basis = start.new_empty(len(start), 0)
        self._images = start.new_empty(len(start), 0)
        self._projections = torch.empty(0, 0, dtype=torch.float64)
        self.products = 0
        self._sweeps = 0
        self.values = torch.empty(0, dtype=torch.float64)
        self.residuals = torch.full((self._k,), torch.inf, dtype=torch.float64)
        self.errors = self.residuals
        self._exhausted = False

    def directions(self) -> torch.Tensor:
        """(P, b) orthonormal vectors to multiply F with."""
        return self._next

    def expand(self, directions: torch.Tensor, projections: torch.Tensor, images: torch.Tensor) -> None:
        """Take in A = G Q (m, b) and W = F Q (P, b) of new directions Q, and solve the projected problem."""
        if self._basis.shape[1] == 0:
            # the start came as it was: orthonormalise it, and what it was multiplied to, alike
            directions, transform = _orthonormalised(directions)
            projections, images = projections @ transform.double().cpu(), images @ transform
        if self._basis.shape[1] + directions.shape[1] > RESTART * (self._k + START_EXTRA):
            self._restart()
        self._basis = torch.cat([self._basis, directions], dim=1)
        self._images = torch.cat([self._images, images], dim=1)
        old = self._projections
        self._projections = torch.cat([old, projections], dim=1) if old.numel() else projections
        self.products += directions.shape[1]
        self._sweeps += 1
        self._rayleigh_ritz()

    def finished(self) -> bool:
        return self._sweeps > 0 and (
            self._exhausted
            or bool((self.errors <= self._rtol * self.values_or_zero()).all())
            or self._sweeps >= MAX_SWEEPS
        )

    def converged(self) -> torch.Tensor:
        """(k,) bool."""
        return (self.errors <= self._rtol * self.values_or_zero()) | (self._exhausted & (self.residuals < 1e-5))

    def values_or_zero(self) -> torch.Tensor:
        """(k,) the leading Ritz values; 0 where F has a lower rank."""
        return torch.cat([self.values, self.values.new_zeros(self._k)])[: self._k]

    def vectors(self) -> torch.Tensor:
        """(P, k) unit Ritz vectors; 0 where F has a lower rank."""
        vectors = self._ritz_vectors[:, : self._k]
        return torch.cat([vectors, vectors.new_zeros(len(vectors), self._k - vectors.shape[1])], dim=1)

    def to_start_from(self) -> tuple[torch.Tensor, float]:
        """What to begin with on more samples: the wanted vectors alone where the next eigenvalue is clearly lower."""
        next_value = LEVEL_MARGIN * (self._following or 0.0)
        if self._following is None or self.values_or_zero()[-1] - self.residuals[-1] <= next_value:
            return self._ritz_vectors, 0.0
        return self._ritz_vectors[:, : self._k], next_value

    def _rayleigh_ritz(self) -> None:
        values, rotation = torch.linalg.eigh(self._projections.T @ self._projections)
        values, rotation = values.flip(0).clamp_min(0), rotation.flip(1)
        wanted = rotation[:, : self._k + START_EXTRA].to(self._basis)  # more, to tell how far the next eigenvalue is
        norms = _column_norms(vectors := self._basis @ wanted).to(self._basis)
        vectors = vectors / norms
        residuals = self._images @ wanted / norms - vectors * values[: wanted.shape[1]].to(vectors)
        sizes = _column_norms(residuals).cpu()
        count = min(self._k, len(values))
        self.values, self._rotation = values[:count], rotation
        self.residuals = torch.zeros(self._k, dtype=torch.float64)
        self.residuals[:count] = sizes[:count]
        following = None
        if len(values) > count:  # a value is known up to its residual, or by a sample
            following = float(values[count]) + (0.0 if self._following_known else float(sizes[count]))
        if self._following_known:
            following = max(following or 0.0, self._following_known)
        self._following = following
        self.errors = _eigenvalue_errors(self.values_or_zero(), self.residuals, following)
        self._ritz_vectors = vectors
        unfinished = self.errors[:count] > self._rtol * values[:count]
        if len(values) > count and unfinished.any():
            # the next pair must be known, too, as long as it may be as large as one that is wanted
            close = (values[:count] - self.residuals[:count] <= following)[unfinished].any().view(1)
            unfinished = torch.cat([unfinished, close])
        self._propose(residuals[:, : len(unfinished)][:, unfinished.to(residuals.device)])

    def _propose(self, candidates: torch.Tensor) -> None:
        sizes = _column_norms(candidates)
        candidates = candidates / torch.where(sizes > 0, sizes, 1.0).to(candidates)
        for _ in range(2):  # once leaves a rounding error as large as the component that is left
            candidates = candidates - self._basis @ (self._basis.T @ candidates)
        before = _column_norms(candidates)
        candidates = candidates[:, (before > 1e-4).to(candidates.device)]
        self._next = _orthonormalised(candidates)[0] if candidates.shape[1] else candidates
        self._exhausted = self._next.shape[1] == 0

    def _restart(self) -> None:
        kept = self._rotation[:, : 2 * (self._k + START_EXTRA)]
        self._basis, self._images = self._basis @ kept.to(self._basis), self._images @ kept.to(self._basis)
        self._projections = self._projections @ kept


def _eigenvalue_errors(values: torch.Tensor, residuals: torch.Tensor, following: float | None) -> torch.Tensor:
    """Errors of Ritz values: at most the residual r, and 2 r^2 / gap where the next eigenvalue is known to be lower.

    Args:
        following: the next Ritz value plus its own residual, since it is itself only that well known. Without that,
            two eigenvalues 0.999 apart passed for one that had converged.
    """
    if following is None:
        return residuals
    gap = values - following - residuals
    return torch.where(gap > 0, torch.minimum(residuals, 2 * residuals.square() / gap.clamp_min(1e-300)), residuals)


def _orthonormalised(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An orthonormal basis Q = X T of the columns X (P, b), and T (b, b'); dependent columns are dropped."""
    scale = _column_norms(vectors)
    scale = torch.where(scale > 0, scale, 1.0)
    normalised = vectors / scale.to(vectors)
    values, rotation = torch.linalg.eigh(_gram64(normalised))
    usable = values > 1e-8
    transform = (rotation / values.clamp_min(1e-300).sqrt())[:, usable]
    transform = (transform / scale.to(transform)[:, None]).to(vectors)
    return vectors @ transform, transform


def _gram64(vectors: torch.Tensor) -> torch.Tensor:
    """X^T X with float64 sums, in chunks: a float32 dot product over millions of entries is wrong by 3e-5."""
    return sum(chunk.double().T @ chunk.double() for chunk in vectors.split(1 << 16))


def _column_norms(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=0, dtype=torch.float64)


def _eigenpairs(problem, space, projections, active, gram_values, gram_share) -> Eigenpairs:
    """Put together what is returned: signs, a_x over all samples, eigenvalues, residual bounds, certificates."""
    signs = torch.where(projections.mean(0) < 0, -1.0, 1.0).double()
    projections = projections * signs
    vectors = (space.vectors().T.cpu() * signs[:, None]).float()
    kept = problem.weights > 0
    values = projections[kept].square().sum(0) / problem.samples
    inactive = kept.clone()
    inactive[active] = False
    norms = (problem.shares[inactive] * problem.trace * problem.samples).sqrt()
    added = (norms[:, None] * projections[inactive].abs()).sum(0) / problem.samples
    residuals = space.residuals * problem.trace + added
    # Weyl: lambda_(i+1) is at most that of the Gram matrix's samples plus all the trace of the others
    following = torch.cat([gram_values, gram_values.new_zeros(problem.k + 1)])[1 : problem.k + 1]
    bound = (following + (1 - gram_share).clamp_min(0)) * problem.trace
    order = torch.argsort(values, descending=True, stable=True)
    return Eigenpairs(
        eigenvalues=values[order].numpy(),
        eigenvectors=vectors[order].numpy(),
        projections=projections[:, order].numpy(),
        residuals=residuals[order].numpy(),
        converged=space.converged()[order].numpy(),
        certified=((values - residuals)[order] > bound).numpy(),
        products=space.products,
        trace=problem.trace,
    )


def _budget(memory_budget: float | None, device: torch.device) -> float:
    if memory_budget is not None:
        return memory_budget
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free / 2
