"""What a network of the grid is trained by, evaluated by, and whose gradients are taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fishertail.gradients.cross_entropy import losses_of
from fishertail.gradients.squared_error import squared_error, squared_errors
from fishertail.training.networks.network import DEFAULT_LOSS

Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of outputs (n, C) and labels (n,)


@dataclass(frozen=True)
class TrainingLoss:
    """A loss of outputs (n, C) and labels (n,).

    Attributes:
        mean: its mean over the samples, by whose gradient SGD steps.
        of_samples: (n,) float64, that of each sample.
        of_one: as `gradient_norms` takes it; None is cross entropy.
    """

    mean: Function
    of_samples: Function
    of_one: Function | None


CROSS_ENTROPY = TrainingLoss(nn.functional.cross_entropy, losses_of, None)
LOSSES = {  # by their names in the configuration
    DEFAULT_LOSS: CROSS_ENTROPY,
    "squared_error": TrainingLoss(squared_error, squared_errors, squared_error),
}


def loss_of_run(run: Mapping[str, Any]) -> TrainingLoss:
    """The loss of a run, whose parameters name it where it is not the default."""
    return LOSSES[run["architecture"].get("loss", DEFAULT_LOSS)]
