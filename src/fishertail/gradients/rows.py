"""Rows of the gradient matrix G of one layer, for a batch of samples: factored where a factored form exists.

Row x is scale_x * g_x: the stored part is kept near 1 by powers of two, so that float32 loses no small gradient; the
scales are float64. Vectors of a layer's parameter space are flat, in the order of the layer's parameters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any, Protocol, Self

import torch
from torch.nn import functional as F

from fishertail.gradients.sums import inner_products, lengths, long_product


class Rows(Protocol):
    """n rows of a layer's gradient matrix, over P parameters."""

    def norms(self) -> torch.Tensor:
        """(n,) float64: |g_x|, not by its square, which would vanish below 1e-162."""

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, k) float64: g_x . v for the k rows of `vectors` (k, P)."""

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        """Add the sum over x of c_x g_x to the k rows of `sums` (k, P), for the columns of `coefficients` (n, k)."""

    def gram(self) -> torch.Tensor:
        """(n, n) float64: g_x . g_y."""

    def dense(self) -> "DenseRows":
        """The same with the gradients themselves, n P numbers."""

    @property
    def nbytes(self) -> int:
        """Memory that the rows hold."""

    @property
    def pair_cost(self) -> int:
        """Multiplications for g_x . g_y."""

    @property
    def vector_cost(self) -> int:
        """Multiplications for g_x . v."""

    def take(self, positions: torch.Tensor | slice) -> "Rows":
        """The rows at `positions`."""

    def empty(self, samples: int) -> "Rows":
        """Room for rows of the same layer."""

    def fill(self, positions: torch.Tensor | slice, rows: "Rows") -> None:
        """Overwrite the rows at `positions`."""

    def tensors(self) -> Iterator[torch.Tensor]:
        """What holds them."""


class Stored:
    """What all rows do alike with the tensors that hold them, whose first axis is the samples."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def take(self, positions: torch.Tensor | slice) -> Self:
        return self._with(lambda tensor: tensor[positions])

    def empty(self, samples: int) -> Self:
        return self._with(lambda tensor: tensor.new_empty(samples, *tensor.shape[1:]))

    def fill(self, positions: torch.Tensor | slice, rows: Self) -> None:
        for own, others in zip(self.tensors(), rows.tensors(), strict=True):
            own[positions] = others

    def tensors(self) -> Iterator[torch.Tensor]:
        found: list[torch.Tensor] = []
        self._with(lambda tensor: found.append(tensor) or tensor)
        return iter(found)

    def _with(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return replace(self, **{f.name: _applied(function, getattr(self, f.name)) for f in fields(self)})


def _applied(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Stored):
        return value._with(function)
    if isinstance(value, tuple):
        return tuple(_applied(function, item) for item in value)
    return value


@dataclass(frozen=True)
class DenseRows(Stored):
    """The gradients themselves: any layer, and those whose gradient is smaller than its factors."""

    gradients: torch.Tensor  # (n, P)
    scale: torch.Tensor  # (n,) float64

    def norms(self) -> torch.Tensor:
        return lengths(self.gradients) * self.scale

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        return long_product(self.gradients, vectors) * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        sums.addmm_((coefficients * self.scale[:, None]).to(self.gradients.dtype).T, self.gradients)

    def gram(self) -> torch.Tensor:
        return long_product(self.gradients, self.gradients) * torch.outer(self.scale, self.scale)

    def dense(self) -> Self:
        return self

    @property
    def pair_cost(self) -> int:
        return self.gradients.shape[1]

    vector_cost = pair_cost


@dataclass(frozen=True)
class LinearRows(Stored):
    """A linear layer with one input h a sample: g_x = scale_x * (d_x h_x^T, d_x), d the derivative by its output."""

    derivatives: torch.Tensor  # (n, O)
    inputs: torch.Tensor  # (n, I)
    scale: torch.Tensor  # (n,) float64
    bias: bool

    def norms(self) -> torch.Tensor:
        inputs = lengths(self.inputs)
        return lengths(self.derivatives) * self.scale * (torch.sqrt(inputs.square() + 1) if self.bias else inputs)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        columns = [inner_products(F.linear(self.inputs, *self._split(v)), self.derivatives) for v in vectors]
        return torch.stack(columns, dim=1) * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        scaled = (coefficients * self.scale[:, None]).to(self.derivatives.dtype)
        for column, total in zip(scaled.T, sums, strict=True):
            weighted = self.derivatives * column[:, None]
            weight, bias = self._split(total)
            weight.addmm_(weighted.T, self.inputs)
            if bias is not None:
                bias += weighted.sum(0)

    def gram(self) -> torch.Tensor:
        inputs = long_product(self.inputs, self.inputs)
        if self.bias:
            inputs += 1
        return inputs * long_product(self.derivatives, self.derivatives) * torch.outer(self.scale, self.scale)

    def dense(self) -> DenseRows:
        weight = (self.derivatives[:, :, None] * self.inputs[:, None]).flatten(1)
        return DenseRows(torch.cat([weight, self.derivatives], dim=1) if self.bias else weight, self.scale)

    @property
    def pair_cost(self) -> int:
        return self.derivatives.shape[1] + self.inputs.shape[1]

    @property
    def vector_cost(self) -> int:
        return self.derivatives.shape[1] * self.inputs.shape[1]

    def _split(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight (O, I) and the bias (O,) in a flat vector, as views."""
        outputs, inputs = self.derivatives.shape[1], self.inputs.shape[1]
        weight = vector[: outputs * inputs].view(outputs, inputs)
        return weight, vector[outputs * inputs :] if self.bias else None


@dataclass(frozen=True)
class BlockRows(Stored):
    """Rows over several groups of parameters, side by side: a layer whose parameters are used apart."""

    blocks: tuple[Rows, ...]
    sizes: tuple[int, ...]  # parameters of each

    def norms(self) -> torch.Tensor:
        return reduce(torch.hypot, [block.norms() for block in self.blocks])  # squares below 1e-324 would vanish

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        parts = vectors.split(self.sizes, dim=1)
        return sum(block.project(part) for block, part in zip(self.blocks, parts, strict=True))

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        for block, part in zip(self.blocks, sums.split(self.sizes, dim=1), strict=True):
            block.combine(coefficients, part)

    def gram(self) -> torch.Tensor:
        return sum(block.gram() for block in self.blocks)

    def dense(self) -> DenseRows:
        parts = [block.dense() for block in self.blocks]
        return DenseRows(torch.cat([part.gradients for part in parts], dim=1), parts[0].scale)

    @property
    def pair_cost(self) -> int:
        return sum(block.pair_cost for block in self.blocks)

    @property
    def vector_cost(self) -> int:
        return sum(block.vector_cost for block in self.blocks)
