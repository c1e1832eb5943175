"""Where the iteration of each scope begins: what a part of the samples says."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fishertail.fisher.gram import leading_pairs
from fishertail.fisher.krylov import KrylovSpace
from fishertail.fisher.problem import OUTSIDE, Problem, layers_of_each, without_the_smallest
from fishertail.fisher.products import combine

GRAM_SAMPLES = (400, 1500)  # of the start, at least and at most, within a fortieth of all
LEVEL_SHARE = 1 / 8  # of all samples: the largest level
LEVEL_LEFT_OUT = 1e-2  # of the trace, by the samples that a level leaves out or draws from
LEVEL_DRAWN = 1000  # samples that are drawn to stand for these
GRAM_LEFT_OUT = 0.1  # of the trace, beyond which the samples of the start do not tell the gap
LEVEL_MARGIN = 1.2  # by which the next eigenvalue on all samples may exceed that on a level
START_EXTRA = 2  # vectors beyond the wanted ones: a start from one vector locked on the second of two close eigenvalues
START_MIXTURE = (1.0, 0.5, 0.3)  # of eigenvectors of the Gram matrix, from the last start vector on


@dataclass(frozen=True)
class Start:
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


def start_from(space: KrylovSpace) -> Start:
    return Start(space.ritz_vectors, float(space.values[-1]), space.next_value or 0.0)


def reserved(samples: int) -> int:
    """Rows of how many samples are multiplied more than once or twice."""
    return GRAM_SAMPLES[1] + int(LEVEL_SHARE * samples)


def gram_size(samples: int) -> int:
    """The most samples whose Gram matrix makes the start."""
    return min(samples, max(GRAM_SAMPLES[0], min(GRAM_SAMPLES[1], samples // 40)))


def gram_sample(problems: Mapping[str, Problem], samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples that hold nearly all of the trace, and a third as many of the others; within GRAM_SAMPLES."""
    least, most = GRAM_SAMPLES[0], gram_size(samples)
    largest = len(without_the_smallest(problems, dict.fromkeys(problems, LEVEL_LEFT_OUT)))
    largest = max(3 * least // 4, min(largest, 3 * most // 4))
    return _sample(problems, largest, largest // 3)


def level(problems: Mapping[str, Problem], samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples that hold nearly all of the trace, and some of the others; within LEVEL_SHARE of all."""
    left_out = dict.fromkeys(problems, LEVEL_LEFT_OUT)
    largest, most = len(without_the_smallest(problems, left_out)), int(LEVEL_SHARE * samples)
    largest = min(largest, most - min(LEVEL_DRAWN, most // 2))
    return _sample(problems, largest, min(LEVEL_DRAWN, most - largest))


def _sample(problems: Mapping[str, Problem], largest: int, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
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


def starts_from_grams(store, problems, gram_matrices, index, factor) -> dict[str, Start]:
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
    for name, vectors in combine(store, layers_of_each(problems), index, coefficients).items():
        k, found = problems[name].k, torch.cat([values[name], torch.zeros(problems[name].k + 1)])
        held = float(problems[name].shares[index].sum())
        starts[name] = Start(vectors, float(found[k - 1]), float(found[k]), held > 1 - GRAM_LEFT_OUT)
    return starts


def _mixed(coefficients: torch.Tensor, k: int) -> torch.Tensor:
    """The first k + START_EXTRA columns, the last of them mixed with those that follow."""
    start = coefficients[:, : k + START_EXTRA].clone()
    following = coefficients[:, k + START_EXTRA :]
    for weight, column in zip(START_MIXTURE[1:], following.T, strict=False):
        start[:, -1] += weight * column
    return start


def by_residual(problem: Problem, start: Start) -> float:
    """The trace that may be left out where it only adds to a residual r: by 2 r^2 / gap it counts by its square."""
    if problem.projected < problem.k:  # without their a_x, the trace is also what the eigenvalue may lack
        return by_eigenvalue(problem, start)
    gap = max(start.value - start.next_value, 0.01 * start.value)
    return OUTSIDE * (0.5 * problem.rtol * start.value * gap) ** 0.5


def by_eigenvalue(problem: Problem, start: Start) -> float:
    """The trace that may be left out so that no eigenvalue changes by more than a part of the tolerance."""
    return 0.1 * problem.rtol * start.value
