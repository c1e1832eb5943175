"""The loss of each sample and its derivative by the sample's outputs, from which the backward pass starts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.cross_entropy import differentiable_losses, losses_and_residuals, power_of_two
from fishertail.gradients.random_state import RandomState

SUM_TOLERANCE = 1e-2  # of probabilities, which may be in float16
TRIED = 16  # samples, for one whose loss can be differentiated


@dataclass(frozen=True)
class Derivatives:
    """The losses of n samples, each with its derivative by the sample's outputs."""

    residuals: torch.Tensor  # (n, ...) the derivatives, shaped like the outputs, divided by the scale
    scale: torch.Tensor  # (n,) float64: powers of two
    loss: torch.Tensor  # (n,) float64
    correct: torch.Tensor | None  # (n,) bool; None unless the loss is a classification with one label for each sample


class Loss(Protocol):
    """A loss that is computed for each sample separately."""

    def __call__(self, outputs: torch.Tensor, targets: Any) -> Derivatives:
        """The losses of outputs (n, ...) and their targets, with derivatives."""

    def check(self, outputs: torch.Tensor, targets: Any) -> None:
        """Raise `ValueError` for targets (N, ...) that do not fit the outputs (n, ...) of some samples."""


def loss_of(loss: Callable[..., torch.Tensor] | None) -> "CrossEntropy | OtherLoss":
    """Cross entropy without cancellation for None and plain cross entropy; else `loss`, called sample by sample.

    Raises:
        TypeError: it cannot be called.
    """
    if isinstance(loss, type):
        raise TypeError(f"loss: an instance expected, such as {loss.__name__}(), found the class {loss.__name__}")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss: a function of the outputs and labels of one sample expected, found {loss!r}")
    if loss is None or loss is nn.functional.cross_entropy:
        return CrossEntropy(default=loss is None)
    if isinstance(loss, nn.CrossEntropyLoss) and _is_plain(loss):
        return CrossEntropy(loss.reduction == "mean", loss.ignore_index)
    return OtherLoss(loss)


def _is_plain(loss: nn.CrossEntropyLoss) -> bool:
    """Whether it is torch's own, without weights and smoothing, and gives one number."""
    own = type(loss) is nn.CrossEntropyLoss and loss.reduction in ("mean", "sum")
    return own and loss.weight is None and loss.label_smoothing == 0


def _weights_cancel(loss: Any) -> bool:
    """Whether it has class weights, and divides by the sum of those in the batch."""
    if isinstance(loss, partial) and loss.func in (nn.functional.cross_entropy, nn.functional.nll_loss):
        weight, reduction = loss.keywords.get("weight"), loss.keywords.get("reduction", "mean")
    elif getattr(type(loss), "forward", None) in (nn.CrossEntropyLoss.forward, nn.NLLLoss.forward):
        weight, reduction = loss.weight, loss.reduction
    else:
        return False
    return weight is not None and reduction == "mean"


def check_class_weights(loss: Any, targets: Any) -> None:
    """Refuse a weighted mean over labels that are classes, in which the weight of the one sample cancels.

    Raises:
        UnsupportedModelError: the loss is one.
    """
    classes = isinstance(targets, torch.Tensor | np.ndarray) and not torch.as_tensor(targets[:1]).is_floating_point()
    if classes and _weights_cancel(loss):
        raise UnsupportedModelError(
            "loss: reduction='sum' expected with class weights, so that a sample's gradient carries the weight of its "
            "class; found 'mean', which divides the loss of one sample by its own weight"
        )


class CrossEntropy:
    """Cross entropy of outputs (N, C) or (N, C, d1, ...) with labels (N, ...), or with probabilities of their shape.

    The loss of a sample with several positions is their mean, or their sum. A sample whose labels are all ignored has
    a loss of 0.

    Args:
        mean: whether positions are averaged, not summed.
        ignore_index: the label of positions that do not count.
        default: whether it was not asked for: outputs (N, d1, ..., C) with labels (N, d1, ...) are accepted, too, as
            language models have them, and numbers that are no probabilities are refused.
    """

    def __init__(self, mean: bool = True, ignore_index: int = -100, default: bool = False) -> None:
        self._mean, self._ignored, self._default = mean, ignore_index, default

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> Derivatives:
        """See `Loss`."""
        axis = self._class_axis(outputs, targets)
        logits = outputs.movedim(axis, -1)
        if targets.is_floating_point():
            self._check_probabilities(targets, axis)
            losses, residuals, scale = self._of_probabilities(logits, targets.movedim(axis, -1))
            return Derivatives(residuals.movedim(-1, axis), scale, losses, None)
        labels, counted = self._labels_for(logits, targets)
        weights = counted.double()
        if self._mean and counted.ndim > 1:
            weights /= counted.sum(tuple(range(1, counted.ndim)), keepdim=True).clamp_min(1)
        losses, residuals, scale = losses_and_residuals(logits, labels, weights)
        correct = (outputs.argmax(1) == targets) if outputs.ndim == 2 else None
        return Derivatives(residuals.movedim(-1, axis), scale, losses, correct)

    def check(self, outputs: torch.Tensor, targets: Any) -> None:
        """See `Loss`."""
        axis = self._class_axis(outputs[:1], targets[:1])
        if targets.is_floating_point():
            self._check_probabilities(targets, axis)
        else:
            self._checked_labels(targets, outputs.shape[axis])

    def total(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum of the losses, for autograd of any order."""
        axis = self._class_axis(outputs, targets)
        logits = outputs.movedim(axis, -1)
        if targets.is_floating_point():
            losses = -(targets.movedim(axis, -1) * logits.log_softmax(-1)).sum(-1)
            counted = torch.ones_like(losses, dtype=torch.bool)
        else:
            labels, counted = self._labels_for(logits, targets)
            losses = torch.where(counted, differentiable_losses(logits, labels), 0.0)
        if losses.ndim == 1 or not self._mean:
            return losses.sum()
        return (losses.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)).sum()

    def _class_axis(self, outputs: torch.Tensor, targets: torch.Tensor) -> int:
        if not isinstance(targets, torch.Tensor):
            raise ValueError(f"labels: a tensor of integers expected, found {type(targets).__name__}")
        if outputs.ndim < 2:
            raise ValueError(f"cross entropy: outputs (N, classes, ...) expected, found {tuple(outputs.shape)}")
        if targets.is_floating_point():
            if targets.shape == outputs.shape:
                return 1
            wanted = f"integers, or probabilities {tuple(outputs.shape)} like the outputs"
            raise ValueError(f"labels: {wanted}, expected; found {targets.dtype} of shape {tuple(targets.shape)}")
        by_class = targets.shape == (outputs.shape[0], *outputs.shape[2:])
        by_position = self._default and outputs.ndim > 2 and targets.shape == outputs.shape[:-1]
        if by_class and by_position:
            raise ValueError(
                f"cross entropy: with outputs {tuple(outputs.shape)} and labels {tuple(targets.shape)} either axis "
                "can be that of the classes; pass loss=torch.nn.CrossEntropyLoss() if it is the second, a function of "
                "your own if it is the last"
            )
        if by_position:
            return outputs.ndim - 1
        if not by_class:
            kind = "one integer per sample" if outputs.ndim == 2 else "one integer per position"
            also = " (or by position, with the classes last)" if self._default and outputs.ndim > 2 else ""
            raise ValueError(
                f"labels: {kind} expected, {(outputs.shape[0], *outputs.shape[2:])} for outputs "
                f"{tuple(outputs.shape)}{also}; found {targets.dtype} of shape {tuple(targets.shape)}"
            )
        return 1

    def _labels_for(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels, and which of them count; for the others the class of the largest logit, whose loss is finite."""
        labels, counted = self._checked_labels(targets, logits.shape[-1])
        return labels if counted.all() else torch.where(counted, labels, logits.detach().argmax(-1)), counted

    def _checked_labels(self, targets: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels, 0 where they are ignored, and which of them count."""
        if targets.is_floating_point() or targets.dtype == torch.bool:
            raise ValueError(f"labels: integers expected, found {targets.dtype} of shape {tuple(targets.shape)}")
        labels = targets.long()  # in which -100 is not 156, as it is in uint8
        counted = labels != self._ignored
        labels = torch.where(counted, labels, 0)
        if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
            one = "; for one output pass loss=..., such as torch.nn.BCEWithLogitsLoss()" if classes == 1 else ""
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise ValueError(f"labels: 0 to {classes - 1} expected, found {found}{one}")
        return labels, counted

    def _check_probabilities(self, targets: torch.Tensor, axis: int) -> None:
        """Refuse numbers that are no probabilities, unless cross entropy was asked for: it is none for a regression."""
        if not self._default or not targets.numel():
            return
        sums = targets.double().sum(axis)
        if targets.shape[axis] < 2 or float(targets.min()) < 0 or float((sums - 1).abs().max()) > SUM_TOLERANCE:
            raise ValueError(
                "labels: integers, or probabilities with a sum of 1 for each sample, expected by the cross entropy, "
                f"which is the default; found {targets.dtype} from {float(targets.min()):.3g} to "
                f"{float(targets.max()):.3g}, with sums from {float(sums.min()):.3g} to {float(sums.max()):.3g}: pass "
                "loss=..., such as torch.nn.MSELoss() for a regression, torch.nn.BCEWithLogitsLoss() for several labels"
            )

    def _of_probabilities(
        self, logits: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Losses, derivatives and scales for labels that are probabilities.

        With q the probabilities and Q their sum, the derivative is p (Q - q) - q (1 - p); 1 - p is the sum over the
        other classes.
        """
        z, q = logits.double(), wanted.double()
        log_p = z.log_softmax(-1)
        p = log_p.exp()
        top = p.argmax(-1, keepdim=True)
        others = (1 - p).scatter(-1, top, p.scatter(-1, top, 0.0).sum(-1, keepdim=True))
        q_others = (q.sum(-1, keepdim=True) - q).scatter(
            -1, q.argmax(-1, keepdim=True), q.scatter(-1, q.argmax(-1, keepdim=True), 0.0).sum(-1, keepdim=True)
        )
        residuals = p * q_others - q * others
        losses = -(q * torch.where(q == 0, 0.0, log_p)).sum(-1)
        if self._mean and losses.ndim > 1:
            positions = losses[0].numel()
            residuals, losses = residuals / positions, losses / positions
        losses = losses.flatten(1).sum(1) if losses.ndim > 1 else losses
        return losses, *normalised(residuals, logits.dtype)


class OtherLoss:
    """Any loss, called with the outputs and the target of one sample as a batch of one."""

    def __init__(self, loss: Callable[..., torch.Tensor]) -> None:
        self._loss, self._checked = loss, False

    def __call__(self, outputs: torch.Tensor, targets: Any) -> Derivatives:
        """See `Loss`.

        Raises:
            UnsupportedModelError: the loss is random, cannot be differentiated by the outputs, depends on parameters of
                its own, or is a weighted mean, in which the weight of the one sample cancels.
        """
        check_class_weights(self._loss, targets)
        if not self._checked:
            self._check_loss(outputs, targets)
            self._checked = True
        try:
            residuals, losses = torch.func.vmap(torch.func.grad_and_value(self._of_one))(outputs, targets)
        except RuntimeError:  # a mask, `.item()`, or an operation that torch.func does not know
            residuals, losses = self._one_by_one(outputs, targets)
        classifies = outputs.ndim == 2 and isinstance(targets, torch.Tensor) and targets.ndim == 1
        classifies = classifies and not targets.is_floating_point() and outputs.shape[1] > 1
        correct = outputs.argmax(1) == targets if classifies else None
        return Derivatives(*normalised(residuals, outputs.dtype), losses.double(), correct)

    def check(self, outputs: torch.Tensor, targets: Any) -> None:
        """See `Loss`; what the loss accepts is known only when it is called."""
        check_class_weights(self._loss, targets)

    def _check_loss(self, outputs: torch.Tensor, targets: Any) -> None:
        """Refuse a loss of which a gradient by the outputs is not all there is, by a few samples."""
        before, connected = RandomState(outputs.device), False
        try:
            for sample in range(min(len(outputs), TRIED)):
                target = tree_map_only(torch.Tensor, itemgetter(sample), targets)
                output = outputs[sample].detach().clone().requires_grad_()
                with torch.enable_grad():
                    if self._of_one(output.detach().clone(), target).requires_grad:
                        raise UnsupportedModelError(
                            "loss: a function of the outputs and labels alone expected, found one that depends on "
                            "parameters besides, by which it would not be differentiated"
                        )
                    connected = self._of_one(output.clone(), target).requires_grad
                if connected:
                    break
        except RuntimeError:  # it is said where all samples are computed
            connected = True
        finally:
            random = before.restore()
        if random:
            raise UnsupportedModelError("loss: one without random numbers expected, found one that draws them")
        if not connected:
            raise UnsupportedModelError(
                "loss: one that can be differentiated by the outputs of a sample expected, found one that does not "
                "depend on them, or only by way of integers such as argmax gives"
            )

    def total(self, outputs: torch.Tensor, targets: Any) -> torch.Tensor:
        """The sum of the losses, for autograd of any order."""
        return torch.vmap(self._of_one)(outputs, targets).sum()

    def _of_one(self, output: torch.Tensor, target: Any) -> torch.Tensor:
        value = self._loss(output[None], tree_map_only(torch.Tensor, lambda t: t[None], target))
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"the loss of one sample must be a tensor of one number, found {type(value).__name__}")
        if value.numel() != 1:
            raise ValueError(f"the loss of one sample must be one number, found shape {tuple(value.shape)}")
        return value.reshape(())

    def _one_by_one(self, outputs: torch.Tensor, targets: Any) -> tuple[torch.Tensor, torch.Tensor]:
        residuals, losses = [], []
        for sample in range(len(outputs)):
            output = outputs[sample].detach().requires_grad_()
            target = tree_map_only(torch.Tensor, itemgetter(sample), targets)
            try:
                with torch.enable_grad():
                    loss = self._of_one(output.clone(), target)  # which it may overwrite
                gradient = torch.autograd.grad(loss, output, allow_unused=True)[0] if loss.requires_grad else None
            except RuntimeError as error:
                raise UnsupportedModelError(f"the loss cannot be computed for one sample: {error}") from error
            residuals.append(torch.zeros_like(output) if gradient is None else gradient)
            losses.append(loss.detach())
        return torch.stack(residuals), torch.stack(losses)


def normalised(residuals: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide each sample's residual (n, ...) by a power of two that brings its largest entry into [1, 2).

    float32 then carries derivatives of 1e-40 through the network as exactly as those of 1.

    Returns:
        the residuals, in `dtype`, and the powers of two (n,) float64.
    """
    scale = power_of_two(
        residuals.flatten(1).abs().amax(1).double() if residuals.ndim > 1 else residuals.abs().double()
    )
    return (residuals.double() / scale.view(-1, *(1,) * (residuals.ndim - 1))).to(dtype), scale
