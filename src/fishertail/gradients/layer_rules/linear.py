"""Linear layers."""

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.linear import LinearRows
from fishertail.gradients.layer_rows.outer_products import outer_product_rows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


@treats(F.linear)
class Linear(LayerRule):
    """y = W h + b, at one position or at several that share the weight: g = sum_t d_t h_t^T."""

    def rows(
        self, call: Call, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        if "weight" not in roles:
            return DenseRows(derivatives.flatten(1, -2).sum(1) if derivatives.ndim > 2 else derivatives, scale)
        if inputs.ndim == 2:
            return LinearRows(derivatives, inputs, scale, "bias" in roles)
        left, right = derivatives.flatten(1, -2), inputs.flatten(1, -2)
        return outer_product_rows(left, right, scale, left.shape[2], "bias" in roles)
