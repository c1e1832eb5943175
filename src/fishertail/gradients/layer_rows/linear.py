"""Rows of a linear layer with one input per sample, stored as their two factors."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from fishertail.gradients.accurate_sums import inner_products, lengths, long_product, sums_in_turn
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.shared_inputs import SharedInputs


@dataclass(frozen=True)
class LinearRows(SharedInputs):
    """g_x = scale_x * (d_x h_x^T, d_x), with h the layer's input and d the derivative of the loss by its output."""

    derivatives: torch.Tensor  # (n, O)
    inputs: torch.Tensor  # (n / shared, I)
    scale: torch.Tensor  # (n,) float64
    bias: bool
    shared: int = 1

    INPUTS = "inputs"

    def norms(self) -> torch.Tensor:
        inputs = lengths(self.inputs).repeat_interleave(self.shared)
        return lengths(self.derivatives) * self.scale * (torch.sqrt(inputs.square() + 1) if self.bias else inputs)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        outputs = (F.linear(self.inputs, *self._split(vector)) for vector in vectors)
        columns = [inner_products(of_vector, self.derivatives, self.shared) for of_vector in outputs]
        return torch.stack(columns, dim=1) * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        scaled = (coefficients * self.scale[:, None]).to(self.derivatives.dtype)
        for column, total in zip(scaled.T, sums, strict=True):
            weighted = sums_in_turn(self.derivatives * column[:, None], self.shared)
            weight, bias = self._split(total)
            weight.addmm_(weighted.T, self.inputs)
            if bias is not None:
                bias += weighted.sum(0)

    def gram(self) -> torch.Tensor:
        inputs = long_product(self.inputs, self.inputs)
        if self.bias:
            inputs += 1
        if self.shared > 1:
            inputs = inputs.repeat_interleave(self.shared, 0).repeat_interleave(self.shared, 1)
        return inputs * long_product(self.derivatives, self.derivatives) * torch.outer(self.scale, self.scale)

    def dense(self) -> DenseRows:
        inputs = self.alone().inputs
        weight = (self.derivatives[:, :, None] * inputs[:, None]).flatten(1)
        return DenseRows(torch.cat([weight, self.derivatives], dim=1) if self.bias else weight, self.scale)

    @property
    def pair_cost(self) -> int:
        return self.derivatives.shape[1] + self.inputs.shape[1]

    @property
    def vector_cost(self) -> int:
        return self.derivatives.shape[1] * self.inputs.shape[1] // self.shared

    def _split(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight (O, I) and the bias (O,) in a flat vector, as views."""
        outputs, inputs = self.derivatives.shape[1], self.inputs.shape[1]
        weight = vector[: outputs * inputs].view(outputs, inputs)
        return weight, vector[outputs * inputs :] if self.bias else None
