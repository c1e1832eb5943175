"""Cross entropy without cancellation: exact for samples that are fitted to any degree.

With z the logits and y the true class, f = log(1 + s) with s = sum over j != y of exp(z_j - z_y). Its derivative is
p_j for j != y, and p_y - 1 = -(sum of the other p_j) for the true class. float32 autograd takes p_y - 1 as a
difference, which rounds to 0 or to a multiple of 6e-8 once p_y nears 1: after 20 epochs of MNIST half of the gradient
norms were wrong by 46 % or more.
"""

import torch


def losses_and_residuals(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross entropy of each sample, and its derivative by the logits.

    Args:
        logits: (N, C) of any floating dtype.
        labels: (N,) integers in [0, C).

    Returns:
        losses (N,) and residuals (N, C), both float64 with a relative error of rounding.
    """
    margins = logits.double()
    margins = margins - margins.gather(1, labels[:, None])
    others = margins.scatter(1, labels[:, None], -torch.inf)
    log_s = torch.logsumexp(others, dim=1)
    # log(1 + exp(log_s)); logaddexp stays exact where s is far below the rounding of 1
    losses = torch.where(log_s > 0, log_s + torch.log1p(torch.exp(-log_s)), torch.log1p(torch.exp(log_s)))
    residuals = torch.exp(others - losses[:, None])
    residuals = residuals.scatter(1, labels[:, None], -residuals.sum(1, keepdim=True))
    return losses, residuals


def check_labels(labels: torch.Tensor, classes: int) -> None:
    """Raise `ValueError` unless `labels` are one integer in [0, classes) a sample."""
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(f"labels: one integer a sample expected, found {labels.dtype} of shape {tuple(labels.shape)}")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ValueError(f"labels: 0 to {classes - 1} expected, found {int(labels.min())} to {int(labels.max())}")
