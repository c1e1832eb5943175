"""Loss and accuracy of a model on samples that it was not trained on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fishertail.gradients.inputs import moved, samples_of
from fishertail.gradients.losses import loss_of
from fishertail.gradients.model_outputs import called, chosen_output

_BATCH = 256


def validated(
    model: nn.Module,
    images: Any,
    labels: Any,
    *,
    loss: Callable[..., torch.Tensor] | None = None,
    device: str | torch.device = "cpu",
    output: str | int | None = None,
) -> dict[str, float]:
    """The mean loss, and the accuracy where each sample has one class, by the names of metrics.csv.

    Args:
        model: it is moved to the device, and set to eval mode.
        images, labels, loss, output: see `gradient_norms`.
    """
    device, samples, of_each = torch.device(device), samples_of(images, labels), loss_of(loss)
    model.to(device).eval()
    losses, correct = [], []
    for index in torch.arange(len(samples)).split(_BATCH):
        inputs, targets = moved(samples.read(index), device)
        with torch.no_grad():
            outputs = chosen_output(called(model, inputs), output, len(index))
        found = of_each(outputs, targets)
        losses.append(found.loss)
        correct += [] if found.correct is None else [found.correct]
    accuracy = {"validation_accuracy": float(torch.cat(correct).double().mean())} if correct else {}
    return {"validation_loss": float(torch.cat(losses).mean())} | accuracy
