"""The rows of a layer by the rules of the functions that take its parameters."""

from collections.abc import Mapping, Sequence

import torch

from fishertail.gradients.gradient_plan import GradientPlan, ParameterGroup
from fishertail.gradients.layer_rows.blocks import BlockRows
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.near_one import near_one
from fishertail.gradients.layer_rows.outer_products import added
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.recording import Use


def rows_by_rule(
    plan: GradientPlan,
    groups: Sequence[ParameterGroup],
    uses: Sequence[Use],
    derivatives: Mapping[int, torch.Tensor | None],
    scale: torch.Tensor,
    shapes: Mapping[str, torch.Size],
    dtype: torch.dtype,
) -> Rows:
    """The rows of a layer, each group of its parameters by the rules of its uses.

    Args:
        groups: of the layer's parameters, as the plan has them.
        uses: that were recorded.
        derivatives: of the loss by the output of each use, divided by the scale; None where it does not depend on it.
        scale: (n,) float64.
        shapes, dtype: of the parameters.
    """
    samples, first = len(scale), {}
    for number in dict.fromkeys(number for group in groups for number, _ in group.uses):
        derivative, axes = derivatives[number], plan.axes[number]
        if derivative is not None and axes is not None and axes[1].axis is not None:
            first[number] = axes[1].first(derivative.reshape(uses[number].shape), samples)
    near, scale = near_one(list(first.values()), scale)
    first = dict(zip(first, near, strict=True))
    blocks: list[Rows] = []
    sizes = []
    for group in groups:
        parts: list[Rows] = []
        for number, roles in group.uses:
            axes = plan.axes[number]
            if number in first and axes is not None:
                use = uses[number]
                parts.append(use.rows(roles, axes[0].first(use.input, samples), first[number], scale))
        sizes.append(sum(shapes[name].numel() for name in group.parameters))
        if not parts:  # no loss depends on them
            parts = [DenseRows(torch.zeros(samples, sizes[-1], dtype=dtype, device=scale.device), scale)]
        blocks.append(added(parts))
    return blocks[0] if len(blocks) == 1 else BlockRows(tuple(blocks), tuple(sizes))
