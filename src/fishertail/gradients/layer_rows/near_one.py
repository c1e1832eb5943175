"""Rows near 1: float32 squares of numbers below 1e-19 lose digits, and those below 1e-23 vanish."""

from collections.abc import Sequence

import torch

from fishertail.gradients.cross_entropy import power_of_two

NEAR = (1e-10, 1e10)  # numbers that are left as they are


def near_one(parts: Sequence[torch.Tensor], scale: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Divide by a power of two for each sample, where its numbers are so small or large that squares would suffer.

    Args:
        parts: (n, ...) each.
        scale: (n,) float64, by which they were divided before.

    Returns:
        the parts, and the scale (n,) by which they are divided now.
    """
    if not parts:
        return [], scale
    lengths = [torch.linalg.vector_norm(part, dim=_own_axes(part)) for part in parts]  # sooner than largest entries
    least, most = (lengths[0] if len(lengths) == 1 else torch.stack(lengths).amax(0)).aminmax()
    if least > NEAR[0] and most < NEAR[1]:
        return list(parts), scale
    largest = torch.stack([part.abs().amax(_own_axes(part)) for part in parts]).amax(0).double()
    far = (largest > 0) & ((largest < NEAR[0]) | (largest > NEAR[1]))
    if not far.any():
        return list(parts), scale
    unit = torch.where(far, power_of_two(largest), 1.0)
    return [_divided(part, unit) for part in parts], scale * unit


def _own_axes(part: torch.Tensor) -> tuple[int, ...]:
    return tuple(range(1, part.ndim))


def _divided(part: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """(n, ...) in two steps, since the inverse of a power of two below 1e-38 is none of float32."""
    exponents = torch.frexp(unit)[1] - 1
    half = exponents // 2
    for step in (half, exponents - half):
        factor = torch.ldexp(torch.ones_like(unit), -step).to(part.dtype)
        part = part * factor.view(-1, *(1,) * (part.ndim - 1))
    return part
