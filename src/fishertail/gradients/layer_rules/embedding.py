"""Embeddings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rows.outer_products import outer_product_rows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.decomposition import Decomposition, decomposes
from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


def limited(weight: torch.Tensor, max_norm: float, norm_type: float) -> torch.Tensor:
    """What torch would make of a weight with `max_norm`, in place of the user's: rows of limited norm.

    Derivatives by it are those by the weight.
    """
    values = weight.detach()
    norms = values.norm(norm_type, dim=1, keepdim=True)
    factors = torch.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)  # 1e-7 as in torch
    return values * factors + (weight - values)


@treats(F.embedding)
class Embedding(LayerRule):
    """A look-up table: row i of the weight at each position where the input is i. g adds d_t to the row of token t."""

    argument_names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")

    def applies(self, call: Call) -> bool:
        return not call.options.get("scale_grad_by_freq")

    def run(self, call: Call) -> torch.Tensor:
        options, weight = dict(call.options, sparse=False), call.weight
        if (max_norm := options.pop("max_norm", None)) is not None:
            weight = limited(weight, max_norm, options.get("norm_type", 2.0))
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


@decomposes(F.embedding_bag)
class LimitedEmbeddingBag(Decomposition):
    """Sums or means of embeddings whose norms are limited."""

    argument_names = (
        "input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse",
        "per_sample_weights", "include_last_offset", "padding_idx",
    )  # fmt: skip

    def applies(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        return (args[3] if len(args) > 3 else kwargs.get("max_norm")) is not None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self.argument_names, args, strict=False)) | kwargs
        weight = limited(given["weight"], given.pop("max_norm"), given.get("norm_type", 2.0))
        return self.function(**given | {"weight": weight, "sparse": False})
