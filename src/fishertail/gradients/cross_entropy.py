"""Cross entropy without cancellation: exact for samples that are fitted to any degree.

With logits z and true class y, f = log(1 + s) with s = sum_{j != y} exp(z_j - z_y). Its derivative is p_j for j != y,
and p_y - 1 = -sum_{j != y} p_j for the true class. float32 autograd computes p_y - 1 as a difference, which rounds to 0
or to a multiple of 6e-8 as p_y approaches 1: after 20 epochs of MNIST, half of the gradient norms were wrong by 46 % or
more.
"""

import torch

_CHUNK = 1 << 16  # logits at a time, so that their float64 copies stay in cache
_LARGEST = 700.0  # exponent for which exp is finite in float64


def losses_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N,) float64: the cross entropy of each row of logits (N, C) with labels (N,) in [0, C)."""
    parts = zip(logits.split(_samples_at_once(logits)), labels.split(_samples_at_once(logits)), strict=True)
    return torch.cat([_exponentials(*part)[0] for part in parts])


def differentiable_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, ...): the cross entropy of logits (N, ..., C) with labels (N, ...) in [0, C), for autograd of any order.

    torch's own has p (1 - p) as a difference in its second derivative, which is 0 for a p within rounding of 1. Here
    every sample has the form in which its derivatives are exact: log(1 + s) if s < 1, see above, and else torch's.
    """
    own = labels.unsqueeze(-1)
    of_own = logits.gather(-1, own)
    is_own = own == torch.arange(logits.shape[-1], device=logits.device)
    log_s = (logits - of_own).masked_fill(is_own, torch.finfo(logits.dtype).min).logsumexp(-1)
    return torch.where(log_s < 0, torch.nn.functional.softplus(log_s), logits.logsumexp(-1) - of_own.squeeze(-1))


def losses_and_residuals(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The cross entropy of each sample, and its derivative by the logits.

    Args:
        logits: (N, ..., C) of any floating dtype: samples, positions of a sample (none, or more axes), classes.
        labels: (N, ...) integers in [0, C).
        weights: (N, ...) float64: the weight of each position in the loss of its sample; 1 by default.

    Returns:
        losses (N,) float64; derivatives (N, ..., C) in the dtype of the logits, each sample's divided by its scale,
        which brings the largest entry into [1, 2); scales (N,) float64, powers of two (1 where all derivatives are 0).
        In this form float32 holds derivatives of 1e-300 as exactly as those of 1.
    """
    weights = torch.ones_like(labels, dtype=torch.float64) if weights is None else weights
    step = _samples_at_once(logits)
    losses, residuals, scales = [], torch.empty_like(logits, memory_format=torch.contiguous_format), []
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        loss, others, log_ratio, log_s = _exponentials(logits[part], labels[part])
        positions = tuple(range(1, loss.ndim))
        # at each position the largest derivative is that by the logit of its label: s / (1 + s)
        largest = (log_s - loss).exp() * weights[part]
        scale = power_of_two(largest.amax(positions) if positions else largest)
        share = weights[part] / scale.view(-1, *(1,) * len(positions))
        others *= (log_ratio.exp() * share).unsqueeze(-1)
        others.scatter_(-1, labels[part].unsqueeze(-1), -others.sum(-1, keepdim=True))
        residuals[part] = others
        scales.append(scale)
        losses.append((loss * weights[part]).sum(positions) if positions else loss * weights[part])
    return torch.cat(losses), residuals, torch.cat(scales)


def _samples_at_once(logits: torch.Tensor) -> int:
    return max(1, _CHUNK // max(logits[0].numel(), 1)) if logits.device.type == "cpu" else max(1, len(logits))


def _exponentials(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """With m the largest z_j - z_y over j != y: the loss, exp(z_j - z_y - m) (0 for y), m - loss, and log(s)."""
    margins, own = logits.double(), labels.unsqueeze(-1)
    margins = margins - margins.gather(-1, own)
    margins.scatter_(-1, own, -torch.inf)
    largest = margins.amax(-1)
    margins -= torch.where(largest == -torch.inf, 0.0, largest).unsqueeze(-1)
    margins.exp_()
    log_s = largest + margins.sum(-1).log()
    loss = torch.where(log_s > _LARGEST, log_s, log_s.clamp_max(_LARGEST).exp().log1p())
    return loss, margins, largest - loss, log_s


def power_of_two(largest: torch.Tensor) -> torch.Tensor:
    """(n,) float64: the power of two that brings an entry into [1, 2) when it is divided by it; 1 for 0, inf, nan."""
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.where(usable, torch.frexp(torch.where(usable, largest, 1.0))[1] - 1, 0)
    return torch.ldexp(torch.ones_like(largest), exponent)
