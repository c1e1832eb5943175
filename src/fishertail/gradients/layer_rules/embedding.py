"""Embeddings."""

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rows.outer_products import outer_product_rows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


@treats(F.embedding)
class Embedding(LayerRule):
    """A look-up table: row i of the weight at each position where the input is i. g adds d_t to the row of token t."""

    argument_names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")

    def applies(self, call: Call) -> bool:
        return not call.options.get("scale_grad_by_freq")

    def run(self, call: Call) -> torch.Tensor:
        options, weight = dict(call.options, sparse=False), call.weight
        if (max_norm := options.pop("max_norm", None)) is not None:  # would renormalise the user's weights in place
            with torch.no_grad():
                limited = weight.detach().clone()
                torch.embedding_renorm_(limited, call.input.contiguous(), max_norm, options.get("norm_type", 2.0))
            weight = weight + (limited - weight.detach())
        output: torch.Tensor = self.function(call.input, weight, **options)
        return output

    def rows(
        self, call: Call, roles: tuple[str, ...], inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor
    ) -> Rows:
        width, tokens = derivatives.shape[-1], len(call.weight)
        left, right = inputs.reshape(len(inputs), -1), derivatives.reshape(len(inputs), -1, width)
        if (padding := call.options.get("padding_idx")) is not None:
            right = torch.where((left == padding % tokens)[:, :, None], 0.0, right)
        return outer_product_rows(left.long(), right, scale, tokens, False)
