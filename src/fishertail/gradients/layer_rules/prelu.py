"""Leaky ReLU with a trained slope."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


@treats(F.prelu)
class PReLU(LayerRule):
    """y = max(0, h) + w min(0, h), with one w for each channel or one for all."""

    argument_names = ("input", "weight")

    def gradients(self, call: Call, inputs: torch.Tensor, derivatives: torch.Tensor) -> Mapping[str, torch.Tensor]:
        by_channel = (derivatives * inputs.clamp_max(0)).unsqueeze(-1).flatten(2).sum(2)
        return {"weight": by_channel if call.weight.numel() > 1 else by_channel.sum(1, keepdim=True)}
