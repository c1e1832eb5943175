"""Gradients of each sample by running one module again: for parameters that go into operations without a rule."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from fishertail.gradients.accurate_sums import sum_of
from fishertail.gradients.gradient_plan import CallAxes
from fishertail.gradients.plan_check import PlanMismatchError
from fishertail.gradients.private_copy import Place, substituted
from fishertail.gradients.recording import ModuleCall, Recorder
from fishertail.gradients.sample_axis import sample_axis

Places = Mapping[str, Sequence[Place]]  # of each parameter


def call_axes(of_batch: ModuleCall, of_one: ModuleCall, samples: int) -> CallAxes | None:
    """Where a module's arguments and outputs have the samples, by its calls with a batch and with one sample.

    Returns None if the shapes do not determine it.
    """
    if len(of_batch.given_shapes) != len(of_one.given_shapes) or len(of_batch.shapes) != len(of_one.shapes):
        return None
    given = [sample_axis(a, b, samples) for a, b in zip(of_batch.given_shapes, of_one.given_shapes, strict=True)]
    returned = [sample_axis(a, b, samples) for a, b in zip(of_batch.shapes, of_one.shapes, strict=True)]
    if None in given + returned:
        return None
    return tuple(axis for axis in given if axis is not None), tuple(axis for axis in returned if axis is not None)


def replay(
    module: nn.Module,
    places: Places,
    call: ModuleCall,
    axes: CallAxes,
    derivatives: Sequence[torch.Tensor | None],
    samples: int,
    loop: bool,
) -> dict[str, torch.Tensor]:
    """(n, *shape) for each parameter in `places`: the gradients of each sample's own call.

    Args:
        module: of the private copy, since its Parameters are replaced while it runs.
        call, axes: what the module was given, and where that has the samples.
        derivatives: of the loss by each tensor that it returned; None where the loss does not depend on it.
        loop: run it for one sample after the other, where torch.func cannot treat it.

    Raises:
        PlanMismatchError: the loss depends on a tensor that the samples share.
    """
    parameters = {name: _parameter(*of_it[0]) for name, of_it in places.items()}
    if any(d is not None and axis.axis is None and axis.size for d, axis in zip(derivatives, axes[1], strict=True)):
        raise PlanMismatchError("the derivative by what it returns is that of all samples together")
    leaves, structure = tree_flatten((call.args, call.kwargs))
    numbers = [number for number, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    given = [axis.separate(leaves[number], samples) for number, axis in zip(numbers, axes[0], strict=True)]
    returned = {
        number: axis.separate(derivative, samples)
        for number, (derivative, axis) in enumerate(zip(derivatives, axes[1], strict=True))
        if derivative is not None and axis.axis is not None
    }

    def product_of_one(
        own: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor], derivatives: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """The outputs of one sample's call times the derivatives by them."""
        filled = list(leaves)
        for number, tensor in zip(numbers, inputs, strict=True):
            filled[number] = tensor.clone()  # which the module may overwrite
        args, kwargs = tree_unflatten(filled, structure)
        replaced = {place: own[name] for name, of_it in places.items() for place in of_it}
        with substituted(replaced), Recorder({}):  # in which no function writes into a weight
            outputs = _tensors(module(*args, **kwargs))
        return sum_of([(outputs[n] * d).sum() for n, d in zip(returned, derivatives, strict=True)])

    if not returned:
        return {name: value.new_zeros(samples, *value.shape) for name, value in parameters.items()}
    inputs, input_axes = [tensor for tensor, _ in given], [axis for _, axis in given]
    parts, part_axes = [part for part, _ in returned.values()], [axis for _, axis in returned.values()]
    if not loop:
        by_sample = torch.func.vmap(
            torch.func.grad(product_of_one), in_dims=(None, input_axes, part_axes), randomness="different"
        )
        detached = {name: value.detach() for name, value in parameters.items()}
        gradients: dict[str, torch.Tensor] = by_sample(detached, inputs, parts)
        return gradients
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in parameters}
    for sample in range(samples):
        own_inputs, own_parts = (_of_one(tensors, sample) for tensors in (given, returned.values()))
        with torch.enable_grad():
            product = product_of_one(parameters, own_inputs, own_parts)
        values = list(parameters.values())
        used = product.requires_grad  # or this sample's outputs depend on no parameter at all
        found = torch.autograd.grad(product, values, allow_unused=True) if used else [None] * len(values)
        for (name, value), gradient in zip(parameters.items(), found, strict=True):
            rows[name].append(torch.zeros_like(value) if gradient is None else _dense(gradient))
    return {name: torch.stack(parts) for name, parts in rows.items()}


def _parameter(module: nn.Module, name: str) -> torch.Tensor:
    parameter = module._parameters[name]
    assert parameter is not None
    return parameter


def _of_one(tensors: Iterable[tuple[torch.Tensor, int | None]], sample: int) -> list[torch.Tensor]:
    """What one sample has of tensors with an axis for the samples."""
    return [tensor if axis is None else tensor.select(axis, sample) for tensor, axis in tensors]


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.layout != torch.strided else gradient


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]
