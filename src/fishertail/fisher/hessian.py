"""The largest and smallest eigenvalues of the Hessian of the mean loss, by curvlinops' products and block Lanczos.

H v is the derivative of the gradient along v (Pearlmutter 1994): one product takes one sweep over the samples, and no
more memory than a backward pass. Unlike F, the Hessian has negative eigenvalues as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_map_only

from fishertail.errors import UnsupportedModelError
from fishertail.fisher.block_lanczos import block_lanczos
from fishertail.fisher.curvlinops_extra import HessianLinearOperator
from fishertail.fisher.second_derivatives import second_derivatives
from fishertail.gradients.accurate_sums import sum_of
from fishertail.gradients.inputs import Samples, samples_of
from fishertail.gradients.losses import loss_of
from fishertail.gradients.model_outputs import called, chosen_output
from fishertail.gradients.private_copy import private_copy
from fishertail.gradients.recording import Recorder

_Batch = dict[str, Any]  # inputs and targets of some samples, and how many these are
_Function = Callable[[torch.Tensor, Any], torch.Tensor]  # of outputs and targets: one number

_DENSE = 64  # parameters up to which all columns of the Hessian are computed
_ASYMMETRY = 1e-3  # relative to v H v; float32 has 1e-6


@dataclass(frozen=True)
class HessianPairs:
    """Eigenpairs of the Hessian: NaN where Lanczos did not converge, or the Hessian is not finite.

    Attributes:
        ranks: (m,) 1, 2, ... from the largest eigenvalue on, then -1, -2, ... from the smallest on.
        eigenvalues: (m,).
        eigenvectors: (m, P): unit vectors, in the order of the parameters.
        residuals: (m,): |H v - lambda v|, so the eigenvalue errs by no more.
        products: the number of products of H with a vector.
    """

    ranks: NDArray[np.int64]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    residuals: NDArray[np.float64]
    products: int


class Hessian:
    """The Hessian of the mean loss of some samples, as products of a float32 or float64 model.

    Args:
        model: left as it is.
        inputs, targets: (n, ...) of the samples on the model's device, in any form that `gradient_norms` takes.
        loss: of one sample, see `gradient_norms`. It is computed in float64: in float32, p (1 - p) of a fitted sample
            would be rounding.
        batch_size: number of samples that are computed together.
        output: see `gradient_norms`.

    Raises:
        UnsupportedModelError: the network or its loss has no second derivative, seen on the first two samples.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        targets: Any,
        loss: Callable[..., torch.Tensor] | None,
        batch_size: int,
        output: str | int | None = None,
    ) -> None:
        self._model, self._output = private_copy(model), output
        self._named = dict(self._model.named_parameters())
        of_each, samples = loss_of(loss), samples_of(inputs, targets)

        def losses(outputs: torch.Tensor, targets: Any) -> torch.Tensor:
            # some losses differentiate outputs and targets of one type only
            exact = tree_map_only(torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, targets)
            return of_each.total(outputs.double(), exact)

        self._losses = losses
        self._batches = [_batch(samples, part) for part in torch.arange(len(samples)).split(batch_size)]
        self._check(_batch(samples, torch.arange(min(2, len(samples)))))

    def eigenpairs(self, parameters: Sequence[str], *, k: int, both_ends: bool, rtol: float) -> HessianPairs:
        """The k largest eigenpairs of the block of some parameters.

        Args:
            parameters: their names; all others are held.
            both_ends: also the k smallest.
            rtol: relative to the eigenvalue, the largest residual of a pair that has converged.
        """
        operator = self._operator(parameters, self._batches, self._losses)
        ascending, rows = _extremes(operator, k, both_ends, rtol)
        count = min(k, operator.size)
        ranks = np.array([*range(1, count + 1), *(range(-1, -count - 1, -1) if both_ends else ())])
        # in ascending order, from the end and from the beginning
        places = torch.from_numpy(np.where(ranks > 0, len(rows) - ranks, -ranks - 1))
        values, vectors = ascending[places], rows[places.to(rows.device)]
        residuals = operator.multiply(vectors).double() - values.to(vectors.device)[:, None] * vectors.double()
        return HessianPairs(
            ranks,
            values.numpy(),
            vectors.double().cpu().numpy(),
            torch.linalg.vector_norm(residuals, dim=1).cpu().numpy(),
            operator.products,
        )

    def _operator(self, parameters: Sequence[str], batches: Sequence[_Batch], function: _Function) -> "_MeanHessian":
        own, samples = [self._named[name] for name in parameters], sum(batch["samples"] for batch in batches)
        of_sum = HessianLinearOperator(
            _Sum(self._model, function, self._output),
            _Itself(),
            own,
            [(batch, torch.empty(0)) for batch in batches],  # targets are in the batch: here they would be one tensor
            check_deterministic=False,
            num_data=samples,
            batch_size_fn=itemgetter("samples"),
        )
        return _MeanHessian(of_sum, samples)

    def _check(self, batch: _Batch) -> None:
        """Multiply Hessians of two samples, before hours are spent.

        That of the outputs' squares shows whether the network's second derivatives are symmetric: not zero, as those of
        a fitted sample's loss may be.
        """
        trained = [name for name, parameter in self._named.items() if parameter.requires_grad]
        drawn = np.random.default_rng(0).standard_normal((sum(self._named[name].numel() for name in trained), 4))
        vectors = torch.from_numpy(drawn.T)
        try:
            self._operator(trained, [batch], self._losses).multiply(vectors[:1])
            products = self._operator(trained, [batch], _weighted_squares).multiply(vectors).double().cpu()
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UnsupportedModelError(f"the network or its loss has no second derivative: {reason}") from error
        forms = vectors @ products.T
        size = float(torch.linalg.vector_norm(products, dim=1).max())  # about that of a form of a vector with itself
        difference = float((forms - forms.T).abs().max())
        if difference > _ASYMMETRY * size:
            raise UnsupportedModelError(
                "the network's second derivatives are not symmetric, so one of its operations has wrong ones in "
                f"PyTorch: v H u and u H v differ by {difference / size:.1e} of their size"
            )


def _batch(samples: Samples, index: torch.Tensor) -> _Batch:
    inputs, targets = samples.read(index)
    return {"inputs": inputs, "targets": targets, "samples": len(index)}


class _Sum(nn.Module):
    """A function of the outputs of a batch, summed over its samples, as curvlinops differentiates it."""

    def __init__(self, model: nn.Module, function: _Function, output: str | int | None) -> None:
        super().__init__()
        self.model, self._function, self._output = model, function, output

    def forward(self, batch: _Batch) -> torch.Tensor:
        with Recorder({}):  # in which no function writes into a weight
            outputs = chosen_output(called(self.model, batch["inputs"]), self._output, batch["samples"])
        # vmap needs a second derivative by every parameter, one that is not used included
        nothing = 0 * sum_of([parameter.square().sum() for parameter in self.model.parameters()])
        return self._function(outputs + nothing, batch["targets"])


class _Itself(nn.Module):
    """The loss as curvlinops takes it, of what is the sum of the losses already."""

    reduction = "sum"

    def forward(self, total: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return total


def _weighted_squares(outputs: torch.Tensor, _: Any) -> torch.Tensor:
    """The squares of the outputs, with different weights: the plain sum is constant where outputs are normalised."""
    squares = outputs.double().square().flatten(1)
    return (squares * torch.linspace(0.5, 1.5, squares.shape[1], device=squares.device)).sum()


class _MeanHessian:
    """The Hessian of the mean loss, with its products counted."""

    def __init__(self, of_sum: Any, samples: int) -> None:
        self._of_sum, self._samples = of_sum, samples
        self.size: int = of_sum.shape[0]
        self.products = 0

    def like(self) -> torch.Tensor:
        """A tensor of the type and on the device of vectors."""
        return torch.empty(0, dtype=self._of_sum.dtype, device=self._of_sum.device)

    def multiply(self, vectors: torch.Tensor) -> torch.Tensor:
        """The products (b, P) with vectors (b, P)."""
        self.products += len(vectors)
        with second_derivatives():
            products: torch.Tensor = self._of_sum @ vectors.T.contiguous().to(self.like())
        return products.T / self._samples


def _extremes(operator: _MeanHessian, k: int, both_ends: bool, rtol: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest eigenvalues, ascending, behind the k smallest if these are wanted, and vectors as rows."""
    size, like = operator.size, operator.like()
    if size > max(_DENSE, 2 * k):
        return block_lanczos(operator.multiply, size, like, k=k, both_ends=both_ends, rtol=rtol)
    columns = operator.multiply(torch.eye(size)).double().cpu()
    if not columns.isfinite().all():
        return torch.full((size,), torch.nan, dtype=torch.float64), like.new_full((size, size), torch.nan)
    values, vectors = torch.linalg.eigh(columns)
    return values, vectors.T.to(like)
