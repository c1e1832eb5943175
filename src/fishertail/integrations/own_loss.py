"""Whether the loss that is measured is the one that a model of Hugging Face gives by itself."""

import math
from typing import Any

import torch
from torch import nn

from fishertail import devices
from fishertail.execution.live.model import WatchedModel
from fishertail.execution.live.undisturbed import undisturbed
from fishertail.gradients.inputs import moved, samples_of
from fishertail.gradients.matrix import gradient_norms

TOLERANCE = 1e-3  # relative, of losses


def check_loss(
    model: nn.Module, images: Any, labels: Any, device: str | torch.device | None, output: str | int | None
) -> None:
    """Compare the cross entropy of the first sample with the loss that the model gives for it.

    Nothing is compared where the model gives none, or not in this process.

    Args:
        model: it is left as it is; a copy in eval mode is run.
        images, labels, device, output: see `gradient_norms`.

    Raises:
        ValueError: they differ, as those of a causal language model do, whose labels are those of the next position.
    """
    watched = WatchedModel(model)
    if not watched.measures:
        return
    where = devices.resolved(watched.device if device is None else device)
    with undisturbed(where):
        if (copy := watched.copy()) is None:
            return
        copy = copy.to(where).eval()
        inputs, targets = moved(samples_of(images, labels).read(torch.tensor([0])), where)
        own = _loss_of(copy, inputs, targets)
        if own is None:
            return
        measured = float(gradient_norms(copy, inputs, targets, device=where, output=output).loss[0])
    if not math.isclose(own, measured, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        raise ValueError(
            f"loss: the model's own loss of the first sample is {own:.4g}, but the cross entropy that is measured is "
            f"{measured:.4g}; pass loss=..., a function of the outputs and labels of one sample. For a causal language "
            "model, docs/how-to/live.md has it"
        )


def _loss_of(model: nn.Module, inputs: Any, targets: Any) -> float | None:
    """What the model gives as its loss, if it gives any."""
    try:
        with torch.no_grad():
            found = getattr(model(**inputs, labels=targets), "loss", None)
    except Exception:  # it takes no labels
        return None
    return float(found) if isinstance(found, torch.Tensor) and found.numel() == 1 else None
