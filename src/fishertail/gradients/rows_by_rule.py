"""The rows of each layer, by the rules of the functions that take its parameters, or as they were found without."""

from collections.abc import Mapping, Sequence

import torch

from fishertail.gradients.gradient_plan import GradientPlan, ParameterGroup
from fishertail.gradients.layer_rows.blocks import BlockRows
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.near_one import near_one
from fishertail.gradients.layer_rows.outer_products import added
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.recording import Use


def rows_of_layers(
    plan: GradientPlan,
    shapes: Mapping[str, Mapping[str, torch.Size]],
    uses: Sequence[Use],
    at_uses: Mapping[int, torch.Tensor | None],
    gradients: Mapping[str, torch.Tensor | None],
    scale: torch.Tensor,
    dtype: torch.dtype,
) -> dict[str, Rows]:
    """The rows of some layers.

    Args:
        shapes: of the parameters of each layer.
        uses, at_uses, scale, dtype: see `rows_by_rule`.
        gradients: (n, *shape) of the parameters that have no rule, divided by the scale; zero where there is none.
    """
    rows: dict[str, Rows] = {}
    for layer, own in shapes.items():
        if layer in plan.by_rule:
            rows[layer] = rows_by_rule(plan, plan.by_rule[layer], uses, at_uses, scale, own, dtype)
            continue
        parts = []
        for name, shape in own.items():
            found = gradients.get(name)
            found = torch.zeros(len(scale), *shape, dtype=dtype, device=scale.device) if found is None else found
            parts.append(found.reshape(len(scale), shape.numel()))
        (dense,), of_dense = near_one([torch.cat(parts, dim=1)], scale)
        rows[layer] = DenseRows(dense, of_dense)
    return rows


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
