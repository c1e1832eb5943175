"""Gradients of each sample by running one module again: for parameters that go into operations without a rule."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from fishertail.gradients.plan import Layout, layout
from fishertail.gradients.recording import ModuleCall
from fishertail.gradients.twin import substituted

Places = Mapping[
    str, Sequence[tuple[nn.Module, str]]
]  # of each parameter: the modules that have it, and its name there
CallLayouts = tuple[tuple[Layout | None, ...], tuple[Layout | None, ...]]  # of the tensors given, and of those returned


def call_layouts(of_batch: ModuleCall, of_one: ModuleCall, samples: int) -> CallLayouts | None:
    """Where a module's arguments and outputs have the samples; None where that cannot be told."""
    batch, one = (_tensors((call.args, call.kwargs)) for call in (of_batch, of_one))
    if len(batch) != len(one) or len(of_batch.shapes) != len(of_one.shapes):
        return None
    given = tuple(layout(a.shape, b.shape, samples) for a, b in zip(batch, one, strict=True))
    returned = tuple(layout(a, b, samples) for a, b in zip(of_batch.shapes, of_one.shapes, strict=True))
    return None if None in given + returned else (given, returned)


def replay(
    module: nn.Module,
    places: Places,
    call: ModuleCall,
    layouts: CallLayouts,
    derivatives: Sequence[torch.Tensor | None],
    samples: int,
    loop: bool,
) -> dict[str, torch.Tensor]:
    """(n, *shape) for each parameter in `places`: the gradients of each sample's own call.

    Args:
        module: of the private double, since its Parameters are replaced while it runs.
        call, layouts: what it was given, and where that has the samples.
        derivatives: of the loss by each tensor that it returned.
        loop: run it for one sample after the other, where torch.func cannot treat it.
    """
    parameters = {name: of_it[0][0]._parameters[of_it[0][1]] for name, of_it in places.items()}
    leaves, structure = tree_flatten((call.args, call.kwargs))
    numbers = [number for number, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    given = [layout.one_by_one(leaves[number], samples) for number, layout in zip(numbers, layouts[0], strict=True)]
    returned = [
        None if derivative is None else layout.one_by_one(derivative, samples)
        for derivative, layout in zip(derivatives, layouts[1], strict=True)
    ]
    reached = [number for number, part in enumerate(returned) if part is not None and part[1] is not None]

    def product_of_one(own, inputs, derivatives):
        filled = list(leaves)
        for number, tensor in zip(numbers, inputs, strict=True):
            filled[number] = tensor.clone()  # which the module may overwrite
        args, kwargs = tree_unflatten(filled, structure)
        with substituted({place: own[name] for name, of_it in places.items() for place in of_it}):
            outputs = _tensors(module(*args, **kwargs))
        return sum((outputs[n] * d).sum() for n, d in zip(reached, derivatives, strict=True))

    if not reached:
        return {name: value.new_zeros(samples, *value.shape) for name, value in parameters.items()}
    tensors, axes = [part[0] for part in given], [part[1] for part in given]
    parts, part_axes = [returned[n][0] for n in reached], [returned[n][1] for n in reached]
    if not loop:
        by_sample = torch.func.vmap(
            torch.func.grad(product_of_one), in_dims=(None, axes, part_axes), randomness="different"
        )
        return by_sample({name: value.detach() for name, value in parameters.items()}, tensors, parts)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in parameters}
    for sample in range(samples):
        inputs, ds = (
            [t if axis is None else t.select(axis, sample) for t, axis in zip(*pair, strict=True)]
            for pair in ((tensors, axes), (parts, part_axes))
        )
        with torch.enable_grad():
            product = product_of_one(parameters, inputs, ds)
        gradients = torch.autograd.grad(product, list(parameters.values()), allow_unused=True)
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
            rows[name].append(torch.zeros_like(value) if gradient is None else _dense(gradient))
    return {name: torch.stack(gradients) for name, gradients in rows.items()}


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.layout != torch.strided else gradient


def _tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]
