"""`Start`: where the iteration of a scope begins, and which samples it is computed from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fishertail.fisher.eigenproblem import Eigenproblem, without_the_smallest
from fishertail.fisher.leading_pairs import leading_pairs
from fishertail.fisher.operator import GradientOperator
from fishertail.fisher.space import Space
from fishertail.gradients.cache import RowCache

GRAM_SAMPLES = (400, 1500)  # of the start: at least the first; at most the second, and a fortieth of all
GRAM_LEFT_OUT = 0.1  # of the trace, beyond which the samples of the start say nothing about the gap
LEVEL_SHARE = 1 / 8  # of all samples: the largest level
LEVEL_LEFT_OUT = 1e-2  # of the trace, by the samples that a level leaves out or draws from
LEVEL_DRAWN = 1000  # samples that are drawn to stand for these
LEVEL_MARGIN = 1.2  # by which the next eigenvalue on all samples may exceed that on a level
START_EXTRA = 2  # vectors beyond the wanted ones: a start from one vector locked on the second of two close eigenvalues
START_MIXTURE = (1.0, 0.5, 0.3)  # of eigenvectors of the Gram matrix, from the last start vector on
ERRORS = 3.0  # standard errors by which an eigenvalue of a sample may be wrong
OUTSIDE = 0.25  # of the residual that the tolerance allows, for the samples that are not active


@dataclass(frozen=True)
class Start:
    """The vectors that the iteration of a scope begins with, and the eigenvalues on the samples they come from."""

    vectors: torch.Tensor  # (b, P)
    value: float  # the k-th eigenvalue
    next_value: float  # the one after it
    stands_for_all: bool = True  # whether the two say anything about all samples
    complete: bool = True  # whether no eigenvector that was left out could be among the wanted ones

    @classmethod
    def from_space(cls, space: Space, complete: bool) -> "Start":
        """A start from the eigenpairs on some of the samples."""
        return cls(space.ritz_vectors, float(space.values[-1]), space.next_value or 0.0, complete=complete)

    def following(self) -> float | None:
        """The eigenvalue after the wanted ones, with a margin; None if it may be as large as these."""
        following = LEVEL_MARGIN * self.next_value
        return following if self.stands_for_all and following < self.value else None

    def enough(self, k: int) -> torch.Tensor:
        """The vectors to begin with: only the k wanted ones if the next eigenvalue is clearly lower."""
        return self.vectors if self.following() is None else self.vectors[:k]


@dataclass(frozen=True)
class WeightedSample:
    """Some samples that stand for all."""

    index: torch.Tensor  # (n,) ascending positions
    factor: torch.Tensor  # (n,) float64: multiplies each gradient, so that those drawn stand for all they came from


def gram_has_all(samples: int) -> bool:
    """Whether the samples are so few that their Gram matrix is computed, whatever their norms."""
    return samples <= GRAM_SAMPLES[0]


def gram_size(samples: int) -> int:
    """The largest number of samples whose Gram matrix makes the start."""
    return min(samples, max(GRAM_SAMPLES[0], min(GRAM_SAMPLES[1], samples // 40)))


def reserved(samples: int) -> int:
    """For how many samples rows should be kept, since they are multiplied more than once or twice."""
    return GRAM_SAMPLES[1] + int(LEVEL_SHARE * samples)


def gram_sample(problems: Sequence[Eigenproblem], samples: int) -> WeightedSample:
    """The samples that hold nearly all of the trace, and a third as many of the others; within GRAM_SAMPLES."""
    least, most = GRAM_SAMPLES[0], gram_size(samples)
    largest = len(without_the_smallest(problems, [LEVEL_LEFT_OUT] * len(problems)))
    largest = max(3 * least // 4, min(largest, 3 * most // 4))
    return _drawn(problems, largest, largest // 3)


def level_sample(problems: Sequence[Eigenproblem], samples: int) -> WeightedSample:
    """The samples that hold nearly all of the trace, and some of the others; within LEVEL_SHARE of all."""
    largest = len(without_the_smallest(problems, [LEVEL_LEFT_OUT] * len(problems)))
    most = int(LEVEL_SHARE * samples)
    largest = min(largest, most - min(LEVEL_DRAWN, most // 2))
    return _drawn(problems, largest, min(LEVEL_DRAWN, most - largest))


def _drawn(problems: Sequence[Eigenproblem], largest: int, drawn: int) -> WeightedSample:
    """The samples of largest norm in any scope, and some of the others, drawn in proportion to their squared norms.

    If they were drawn uniformly, a few large ones among them would decide what the others stand for.
    """
    shares = torch.stack([problem.shares for problem in problems])
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
    return WeightedSample(index, factor[index])


def starts_from_grams(
    cache: RowCache, problems: Sequence[Eigenproblem], grams: Sequence[torch.Tensor], sample: WeightedSample
) -> list[Start]:
    """Starts from the leading eigenvectors of a few samples.

    Args:
        grams: W G G^T W (n, n) of the sample in each scope.
    """
    leading = [_leading(problem, gram, sample) for problem, gram in zip(problems, grams, strict=True)]
    operator = GradientOperator(cache, sample.index, [problem.layers for problem in problems])
    vectors = operator.combine([coefficients.to(cache.device) for coefficients, *_ in leading])
    starts = []
    for problem, part, (_, values, errors) in zip(problems, vectors, leading, strict=True):
        found = torch.cat([values, torch.zeros(problem.k + 1)])
        held = float(problem.shares[sample.index].sum())
        starts.append(
            Start(
                part,
                float(found[problem.k - 1]),
                float(found[problem.k]),
                held > 1 - GRAM_LEFT_OUT,
                _complete(values, errors, problem.k),
            )
        )
    return starts


def _leading(
    problem: Eigenproblem, gram: torch.Tensor, sample: WeightedSample
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coefficients c (n, b) of start vectors G^T c, the leading eigenvalues, and their standard errors.

    A sample that was drawn adds the square of its part to the variance of an eigenvalue.
    """
    count = problem.k + START_EXTRA + len(START_MIXTURE) - 1
    values, vectors = leading_pairs(gram * torch.outer(sample.factor, sample.factor), count, 1e-5)
    usable = values > 1e-14 * values[0]
    scaled = torch.where(usable, vectors / torch.where(usable, values, 1.0).sqrt(), 0.0)
    mixed = _mixed(scaled, problem.k)
    errors = values * vectors[sample.factor != 1].pow(4).sum(0).sqrt()
    return mixed * (sample.factor * problem.weights[sample.index])[:, None], values, errors


def _complete(values: torch.Tensor, errors: torch.Tensor, k: int) -> bool:
    """Whether no eigenvalue beyond those of the start could be as large as the k-th, by ERRORS standard errors."""
    if len(values) <= k + START_EXTRA:
        return True
    wanted, left_out = k - 1, k + START_EXTRA
    return float(values[left_out]) + ERRORS * math.hypot(errors[wanted], errors[left_out]) < float(values[wanted])


def _mixed(coefficients: torch.Tensor, k: int) -> torch.Tensor:
    """The first k + START_EXTRA columns, the last of them mixed with those that follow."""
    start = coefficients[:, : k + START_EXTRA].clone()
    following = coefficients[:, k + START_EXTRA :]
    for weight, column in zip(START_MIXTURE[1:], following.T, strict=False):
        start[:, -1] += weight * column
    return start


def by_residual(problem: Eigenproblem, start: Start) -> float:
    """The trace that may be left out if it only adds to the residual r: the eigenvalue errs by 2 r^2 / gap."""
    if problem.projected < problem.k:  # without a_x of all samples, the eigenvalue lacks what is left out
        return by_eigenvalue(problem, start)
    gap = max(start.value - start.next_value, 0.01 * start.value)
    return OUTSIDE * math.sqrt(0.5 * problem.rtol * start.value * gap)


def by_eigenvalue(problem: Eigenproblem, start: Start) -> float:
    """The trace that may be left out so that no eigenvalue changes by more than a tenth of the tolerance."""
    return 0.1 * problem.rtol * start.value
