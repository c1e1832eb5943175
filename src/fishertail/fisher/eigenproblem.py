"""`Eigenproblem`: what is to be found of F in one scope, and which samples decide it.

A scope is a layer, or all layers together for the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fishertail.gradients.matrix import GradientNorms

ACTIVE_SHARE = 0.9  # of the samples, beyond which all are taken as active


@dataclass(frozen=True)
class Request:
    """What is asked for of every scope."""

    k: int  # how many of the largest eigenpairs
    projected: int  # for how many of them a_x of all samples is wanted
    rtol: float  # relative error of the eigenvalues

    @classmethod
    def checked(cls, k: int, projected: int | None, rtol: float, samples: int) -> "Request":
        """The request, with a_x of all k pairs by default.

        Raises:
            ValueError: k is no number from 1 to N, or `projected` none from 0 to k.
        """
        projected = k if projected is None else projected
        if not 1 <= k <= samples:
            raise ValueError(f"k: 1 to {samples} (the number of samples) expected, found {k}")
        if not 0 <= projected <= k:
            raise ValueError(f"projected: 0 to {k} (k) expected, found {projected}")
        return cls(k, projected, rtol)


@dataclass(frozen=True)
class Eigenproblem:
    """The k largest eigenpairs of F = sum_x w_x^2 g_x g_x^T in one scope, in units in which the trace of F is 1."""

    layers: tuple[str, ...]
    parameters: int  # P
    shares: torch.Tensor  # (N,) float64: each sample's share of the trace; 0 for samples that are not part of F
    weights: torch.Tensor  # (N,) float64: w_x = 1 / sqrt(n * trace), with n samples in F; 0 for those not part of F
    samples: int  # n
    trace: float  # of F in its own units: mean |g_x|^2
    k: int
    projected: int
    rtol: float

    @classmethod
    def of(
        cls,
        layers: tuple[str, ...],
        parameters: int,
        squares: torch.Tensor,
        keep: NDArray[np.bool_] | None,
        request: Request,
    ) -> "Eigenproblem":
        """The problem of a scope.

        Args:
            squares: |g_x|^2 (N,) float64.
            keep: which samples (N,) make up F; all for None.
        """
        kept = torch.ones(len(squares), dtype=torch.bool) if keep is None else torch.from_numpy(np.asarray(keep))
        squares = torch.where(kept, squares.nan_to_num(nan=torch.inf, posinf=torch.inf), 0.0)
        samples = int(kept.sum())
        total = float(squares.sum())
        usable = 0 < total < np.inf
        return cls(
            layers=layers,
            parameters=parameters,
            shares=squares / total if usable else squares,
            weights=kept.double() / np.sqrt(total) if usable else kept.double(),
            samples=samples,
            trace=total / max(samples, 1),
            k=min(request.k, parameters),
            projected=min(request.projected, parameters),
            rtol=request.rtol,
        )

    @property
    def solvable(self) -> bool:
        """Whether F is defined and not zero."""
        return 0 < self.trace < np.inf


def squares_of(norms: GradientNorms, layers: tuple[str, ...]) -> torch.Tensor:
    """|g_x|^2 (N,) float64 over some layers."""
    columns = [norms.layers.index(layer) for layer in layers]
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.square(norms.per_layer[:, columns]).sum(1))


def active_samples(problems: Sequence[Eigenproblem], left_out: Sequence[float]) -> torch.Tensor:
    """Ascending positions of the samples that are iterated on; see `without_the_smallest`."""
    active = without_the_smallest(problems, left_out)
    samples = len(problems[0].shares)
    return active if len(active) <= ACTIVE_SHARE * samples else torch.arange(samples)


def without_the_smallest(problems: Sequence[Eigenproblem], left_out: Sequence[float]) -> torch.Tensor:
    """Ascending positions of all samples except those of smallest norm, which hold little of the trace in each scope.

    Args:
        left_out: for each problem, the share of the trace that the samples left out may hold together.
    """
    wanted = torch.zeros(len(problems[0].shares), dtype=torch.bool)
    for problem, share in zip(problems, left_out, strict=True):
        order = torch.argsort(problem.shares)
        smallest = int((problem.shares[order].cumsum(0) <= share).sum())
        wanted[order[smallest:]] = True
    return wanted.nonzero().flatten()
