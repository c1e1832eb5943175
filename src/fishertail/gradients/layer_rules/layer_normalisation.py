"""Normalisations over the last axes, with a weight and a bias for each entry: layer and RMS normalisation."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


@treats(F.layer_norm)
class LayerNormalisation(LayerRule):
    """y = w z + b with z the normalised input; positions before the last axes share w and b."""

    argument_names: tuple[str, ...] = ("input", "normalized_shape", "weight", "bias", "eps")

    def gradients(self, call: Call, inputs: torch.Tensor, derivatives: torch.Tensor) -> Mapping[str, torch.Tensor]:
        products = derivatives * self.function(**{"input": inputs, **call.options})
        shared = tuple(range(1, inputs.ndim - len(call.options["normalized_shape"])))
        if not shared:
            return {"weight": products, "bias": derivatives}
        return {"weight": products.sum(shared), "bias": derivatives.sum(shared)}


@treats(F.rms_norm)
class RmsNormalisation(LayerNormalisation):
    """The same without a bias."""

    argument_names = ("input", "normalized_shape", "weight", "eps")
