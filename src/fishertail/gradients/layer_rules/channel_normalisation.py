"""Normalisations with a weight and a bias for each channel: batch (in eval mode), group and instance normalisation."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rules.rule import Call, LayerRule, treats


class ChannelNormalisation(LayerRule):
    """y = w z + b with z the normalised input, w and b by channel, which is the axis after the samples."""

    def applies(self, call: Call) -> bool:
        return not call.options.get("training")

    def gradients(self, call: Call, inputs: torch.Tensor, derivatives: torch.Tensor) -> Mapping[str, torch.Tensor]:
        products = derivatives * self.function(**{"input": inputs, **call.options})
        if inputs.ndim == 2:
            return {"weight": products, "bias": derivatives}
        return {"weight": products.flatten(2).sum(2), "bias": derivatives.flatten(2).sum(2)}


@treats(F.batch_norm)
class BatchNormalisation(ChannelNormalisation):
    """Normalisation by running statistics."""

    argument_names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@treats(F.group_norm)
class GroupNormalisation(ChannelNormalisation):
    """Normalisation by the statistics of groups of channels of a sample."""

    argument_names = ("input", "num_groups", "weight", "bias", "eps")


@treats(F.instance_norm)
class InstanceNormalisation(ChannelNormalisation):
    """Normalisation by the statistics of each channel of a sample."""

    argument_names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
