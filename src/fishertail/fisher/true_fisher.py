"""The Fisher matrix under the model's own predictive distribution, as rows that the solver of F takes.

F_true = 1/N sum_x E_{y ~ p(y | x)} [g_{x,y} g_{x,y}^T], with g_{x,y} the gradient of -log p(y | x): the labels of the
data play no role (Kunstner, Balles and Hennig 2019, arXiv 1905.12558). The expectation is exact, since each sample has
a row for each of its outputs. With the two distributions here F_true is the generalised Gauss-Newton matrix.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any, Protocol

import torch
from torch import nn

from fishertail.errors import UnsupportedModelError
from fishertail.fisher.operator import GradientOperator
from fishertail.fisher.result import Eigenpairs
from fishertail.fisher.solver import solve
from fishertail.gradients.cache import RowCache
from fishertail.gradients.losses import CrossEntropy, Derivatives, Loss, loss_of
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.memory_budget import readable
from fishertail.gradients.repeated_matrix import RepeatedMatrix
from fishertail.gradients.squared_error import squared_error


class Predictive(Protocol):
    """A distribution p(y | x), whose negative logarithm is the loss up to a constant."""

    def rows(self, shape: Sequence[int]) -> tuple[int, Loss]:
        """The number of rows of a sample whose output has this shape, and the loss by whose derivatives they come."""


class Categorical:
    """The softmax of a sample's logits; the loss is the cross entropy."""

    def rows(self, shape: Sequence[int]) -> tuple[int, Loss]:
        """See `Predictive`."""
        if len(shape) != 1:
            found = ", ".join(["N", *map(str, shape)])
            raise UnsupportedModelError(f"true Fisher matrix: outputs (N, classes) expected, found ({found})")
        return shape[0], _ClassRows()


@dataclass(frozen=True)
class Gaussian:
    """Independent outputs of equal variance.

    It is 1/2 for a sum of squared errors, 1 for half of it, and D/2 for the mean of D.
    """

    precision: float  # 1 / sigma^2; D times that where the loss is a mean over the D outputs
    mean: bool = False  # whether the loss is the mean of squared errors, not their sum

    def rows(self, shape: Sequence[int]) -> tuple[int, Loss]:
        """See `Predictive`."""
        outputs = prod(shape)
        return outputs, _OutputRows(self.precision / outputs if self.mean else self.precision)


class _ClassRows(CrossEntropy):
    """Row (x, c): sqrt(p_c) (p - e_c), the derivative for the label c weighted by its probability."""

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> Derivatives:
        found = super().__call__(outputs, targets)
        return replace(found, scale=found.scale * (-found.loss / 2).exp())  # the loss is -log p_c


@dataclass(frozen=True)
class _OutputRows:
    """Row (x, d): e_d / sigma, whose outer products sum to the expectation of (f - y) (f - y)^T / sigma^4."""

    precision: float  # 1 / sigma^2

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> Derivatives:
        residuals = nn.functional.one_hot(targets, outputs[0].numel()).to(outputs.dtype).view_as(outputs)
        scale = torch.full((len(outputs),), sqrt(self.precision), dtype=torch.float64, device=outputs.device)
        return Derivatives(residuals, scale, torch.zeros_like(scale), None)

    def check(self, outputs: torch.Tensor, targets: Any) -> None:
        """See `Loss`."""


def predictive_of(loss: Callable[..., torch.Tensor] | None) -> Predictive:
    """The distribution that a loss stands for.

    Raises:
        UnsupportedModelError: it is not known.
    """
    if isinstance(loss_of(loss), CrossEntropy):
        return Categorical()
    if loss is nn.functional.mse_loss:
        return Gaussian(2.0, mean=True)
    if type(loss) is nn.MSELoss and loss.reduction in ("mean", "sum"):
        return Gaussian(2.0, mean=loss.reduction == "mean")
    if loss is squared_error:
        return Gaussian(1.0)
    name = getattr(loss, "__name__", type(loss).__name__)
    raise UnsupportedModelError(
        f"true Fisher matrix: the predictive distribution behind the loss {name} is not known; those of cross entropy "
        "(without weights and smoothing) and of the squared error (MSELoss, squared_error) are"
    )


def true_rows(matrix: GradientMatrix, loss: Callable[..., torch.Tensor] | None) -> tuple[GradientMatrix, int]:
    """The matrix whose rows are those of F_true, and how many a sample has.

    With C rows per sample, F_true = 1/N G^T G is C times what the solver finds, which divides by the number of rows.

    Args:
        matrix: an open one, of the model and the samples.
        loss: see `gradient_norms`.

    Raises:
        UnsupportedModelError: see `predictive_of`; or the outputs are not one vector of logits per sample.
    """
    count, by_row = predictive_of(loss).rows(matrix.output_shape)
    return RepeatedMatrix(matrix, count, by_row), count


def true_eigenpairs(
    matrix: GradientMatrix,
    loss: Callable[..., torch.Tensor] | None,
    scopes: Mapping[str, tuple[str, ...]],
    **options: Any,
) -> dict[str, Eigenpairs]:
    """The largest eigenpairs of F_true in some scopes; a_x of sample x and output c is in row C x + c of projections.

    Args:
        matrix, loss: see `true_rows`.
        scopes, options: see `solve`.

    Raises:
        UnsupportedModelError: see `true_rows`.
    """
    rows, count = true_rows(matrix, loss)
    return {
        name: replace(
            pairs, eigenvalues=pairs.eigenvalues * count, residuals=pairs.residuals * count, trace=pairs.trace * count
        )
        for name, pairs in solve(rows, scopes, **options).items()
    }


def true_grams(
    matrix: GradientMatrix,
    loss: Callable[..., torch.Tensor] | None,
    scopes: Mapping[str, tuple[str, ...]],
    samples: torch.Tensor,
    memory_budget: float,
) -> dict[str, torch.Tensor]:
    """G G^T / n (n C, n C) float64 of n samples in some scopes, which has the eigenvalues of their F_true, and zeros.

    Args:
        matrix, loss: see `true_rows`.
        samples: (n,) ascending positions.
        memory_budget: bytes.

    Raises:
        UnsupportedModelError: see `true_rows`.
        ValueError: the matrices do not fit in the budget.
    """
    rows, count = true_rows(matrix, loss)
    index = (samples[:, None] * count + torch.arange(count)).flatten()
    needed = 8 * (len(scopes) + 2) * len(index) ** 2
    if needed > memory_budget:
        raise ValueError(
            f"memory_budget: at least {readable(needed)} expected, for Gram matrices of {len(samples)} samples with "
            f"{count} rows each; found {readable(memory_budget)}"
        )
    cache = RowCache(rows, matrix.layers, memory_budget - needed)
    grams = GradientOperator(cache, index, list(scopes.values())).grams(memory_budget - needed)
    return {name: gram / len(samples) for name, gram in zip(scopes, grams, strict=True)}
