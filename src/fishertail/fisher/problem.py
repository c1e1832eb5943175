"""One scope's eigenproblem, and the samples that decide it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fishertail.gradients.matrix import GradientNorms

OUTSIDE = 0.25  # of the residual that the tolerance allows, by the samples that are not active
ACTIVE_SHARE = 0.9  # beyond this share of the samples, all are taken as active


@dataclass(frozen=True)
class Problem:
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
    def of(
        cls,
        layers: tuple[str, ...],
        parameters: int,
        squares: torch.Tensor,
        keep: np.ndarray | None,
        k: int,
        projected: int,
        rtol: float,
    ) -> "Problem":
        """The problem of a scope, from |g_x|^2 (N,) float64 and which samples (N,) bool make up F."""
        kept = torch.ones(len(squares), dtype=torch.bool) if keep is None else torch.from_numpy(np.asarray(keep))
        squares = torch.where(kept, squares.nan_to_num(nan=torch.inf, posinf=torch.inf), 0.0)
        samples = int(kept.sum())
        total = float(squares.sum())
        usable = 0 < total < np.inf
        weights = kept.double() / np.sqrt(total) if usable else kept.double()
        shares = squares / total if usable else squares
        k, projected = min(k, parameters), min(projected, parameters)
        return cls(layers, parameters, shares, weights, samples, total / max(samples, 1), k, projected, rtol)


def squares_of(norms: GradientNorms, layers: tuple[str, ...]) -> torch.Tensor:
    """|g_x|^2 (N,) float64 over some layers."""
    columns = [norms.layers.index(layer) for layer in layers]
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.square(norms.per_layer[:, columns]).sum(1))


def active_samples(problems: Mapping[str, Problem], left_out: Mapping[str, float]) -> torch.Tensor:
    """Ascending positions of the samples that are iterated on."""
    active = without_the_smallest(problems, left_out)
    samples = len(next(iter(problems.values())).shares)
    return active if len(active) <= ACTIVE_SHARE * samples else torch.arange(samples)


def without_the_smallest(problems: Mapping[str, Problem], left_out: Mapping[str, float]) -> torch.Tensor:
    """Ascending positions of all samples but those of smallest norm that in no scope hold more than `left_out`."""
    wanted = torch.zeros(len(next(iter(problems.values())).shares), dtype=torch.bool)
    for name, problem in problems.items():
        order = torch.argsort(problem.shares)
        smallest = int((problem.shares[order].cumsum(0) <= left_out[name]).sum())
        wanted[order[smallest:]] = True
    return wanted.nonzero().flatten()


def layers_of_each(problems: Mapping[str, Problem]) -> dict[str, tuple[str, ...]]:
    return {name: problem.layers for name, problem in problems.items()}
