"""`Probe`: settles how the rows of each layer are computed, by comparing a few samples with autograd.

For each layer the ways are tried from the cheapest to the most expensive, until one gives what autograd gives: a rule;
its parameters expanded over the samples; running its module again, or one that contains it, in the end the whole
network. This finds what no list of types can: weights used elsewhere, samples of a batch that influence one another,
randomness. The reference comes from the same forward pass, so that rounding at the kink of a ReLU is the same in both.
Of the gradient of each parameter only its norm and its products with two random vectors are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.accurate_sums import lengths
from fishertail.gradients.first_passes import (
    FAULTS,
    SAME_SHAPE_TOLERANCE,
    SAMPLES,
    TOLERANCE,
    close,
    first_passes,
    taken,
)
from fishertail.gradients.gradient_plan import GradientPlan, Replay, parameter_groups
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.memory_budget import Footprint
from fishertail.gradients.module_replay import call_axes
from fishertail.gradients.network import Network, expanded
from fishertail.gradients.random_vectors import VECTORS, RandomVectors
from fishertail.gradients.recording import Use, leaves
from fishertail.gradients.sample_axis import SampleAxis, sample_axis

_VECTOR_SLACK = 3  # a product with a random vector is a norm times a normal number
_AXES = 4  # at most, between the samples and the axes of a parameter that is expanded
_UNIMPORTANT = 1e-3  # share of the network's norm that the tolerance of smaller layers refers to: rounding shows there


Way = Callable[[GradientPlan], GradientPlan | None]


@dataclass(frozen=True)
class _Reference:
    """Autograd's gradients, summarised for each layer by norms and products with random vectors."""

    norms: Mapping[str, torch.Tensor]  # (samples,) float64
    products: Mapping[str, torch.Tensor]  # (samples, VECTORS) float64
    network: float  # the largest norm of a sample's whole gradient
    absent: frozenset[str]  # parameters that the outputs do not depend on


class Probe:
    """Finds the plan of a network.

    Args:
        network: whose plan is wanted.
        samples: inputs of SAMPLES samples on its device, see `probe_inputs`.

    Attributes:
        outputs: of the network for these samples, after `run`.
    """

    def __init__(self, network: Network, samples: Any) -> None:
        self._network, self._samples = network, samples
        self._faults: dict[str, str] = {}  # why the last way of a layer could not be computed

    def run(self) -> tuple[GradientPlan, Footprint]:
        """The plan, which agrees with autograd in every layer, and the memory that a sample takes by it.

        Raises:
            UnsupportedModelError: a layer has no way that agrees; names the layer and the reason.
        """
        first = first_passes(self._network, self._samples)
        outputs, together, alone = first.outputs, first.together, first.alone
        self._batch, self.outputs = first.inputs, outputs.detach()
        generator = torch.Generator().manual_seed(0)
        self._residuals = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
        network = self._network
        self._random = {
            name: RandomVectors(shape.numel(), generator, network.dtype, network.device)
            for name, shape in network.shapes.items()
        }
        reference = self._reference(outputs)
        bytes_of_sample, unruled = first.saved_bytes // SAMPLES, first.unruled
        del first, outputs
        together.outputs = None  # frees the graph
        plan = replace(self._first_plan(together.uses, alone.uses, unruled), absent=reference.absent)
        if (of_all := call_axes(together.calls[""][0], alone.calls[""][0], SAMPLES)) is not None:
            plan = replace(plan, call_axes={"": (of_all,)})
        ways = {layer: self._ways(layer) for layer in network.layers}
        pending = [layer for layer in network.layers if layer not in plan.by_rule]
        while True:
            for layer in pending:
                plan = self._next(plan, layer, ways[layer])
            rows = self._rows(plan, network.layers)
            pending = [layer for layer in network.layers if not self._agrees(layer, rows.get(layer), reference)]
            if not pending:
                network.copied = network.overwrites
                row_bytes = {layer: part.nbytes // SAMPLES for layer, part in rows.items()}
                return plan, Footprint(bytes_of_sample, row_bytes)

    def _reference(self, outputs: torch.Tensor) -> _Reference:
        """Autograd's gradients of each sample by itself; each is summarised as it arrives, and not kept."""
        network = self._network
        layers = {name: layer for layer, own in network.parameters.items() for name in own}
        norms = {layer: torch.zeros(SAMPLES, dtype=torch.float64) for layer in network.layers}
        products = {layer: torch.zeros(SAMPLES, VECTORS, dtype=torch.float64) for layer in network.layers}
        tensors = dict(network.trained())
        wanted, absent = [tensors[name] for name in layers], frozenset(layers)

        def summarise(name: str, row: int, gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.to_dense() if gradient.layout != torch.strided else gradient
            flat, layer = gradient.flatten(), layers[name]
            norms[layer][row] = torch.hypot(norms[layer][row], lengths(flat[None])[0].cpu())
            products[layer][row] += self._random[name].products(flat)
            return gradient.new_zeros(()).expand_as(gradient)

        for sample in range(SAMPLES if outputs.requires_grad else 0):
            of_one = torch.zeros_like(self._residuals)
            of_one[sample] = self._residuals[sample]
            hooks = [tensors[name].register_hook(partial(summarise, name, sample)) for name in layers]
            try:
                found = torch.autograd.grad(outputs, wanted, of_one, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                raise UnsupportedModelError(f"the network cannot be differentiated: {error}") from error
            absent = frozenset(name for name, gradient in zip(layers, found, strict=True) if gradient is None)
            for hook in hooks:
                hook.remove()
        largest = torch.linalg.vector_norm(_finite(torch.stack(list(norms.values()))), dim=0).max()
        return _Reference(norms, products, float(largest), absent)

    def _first_plan(self, together: Sequence[Use], alone: Sequence[Use], unruled: frozenset[str]) -> GradientPlan:
        """Every layer by its rule, as far as all of its uses have one and it is clear where these have the samples."""
        signatures = tuple(use.signature for use in together)
        if signatures != tuple(use.signature for use in alone):
            return GradientPlan()
        axes: list[tuple[SampleAxis, SampleAxis] | None] = []
        repeated = set()
        for number, (batch, one) in enumerate(zip(together, alone, strict=True)):
            of_input = sample_axis(batch.input.shape, one.input.shape, SAMPLES)
            of_output = sample_axis(batch.shape, one.shape, SAMPLES)
            if of_input is None or of_output is None:
                axes.append(None)
                continue
            if of_input.axis is of_output.axis is None and of_output.size and self._repeats(number):
                repeated.add(number)
                of_input, of_output = (replace(axis, axis=0, axes=axis.axes + 1) for axis in (of_input, of_output))
            if of_input.folded and _positions_outside(of_input, batch.input, one.input):
                of_input, of_output = (replace(axis, samples_outside=False) for axis in (of_input, of_output))
            unknown = of_output.size > 0 and None in (of_input.axis, of_output.axis)
            axes.append(None if unknown else (of_input, of_output))
        by_rule = {}
        for layer, parameters in self._network.parameters.items():
            groups = parameter_groups(parameters, [use.parameters for use in together])
            known = all(axes[number] is not None for group in groups for number, _ in group.uses)
            if known and unruled.isdisjoint(parameters):
                by_rule[layer] = groups
        return GradientPlan(signatures, tuple(axes), frozenset(repeated), by_rule)

    def _repeats(self, number: int) -> bool:
        """Whether an output without samples may be repeated for each of them."""
        return self._unchanged(GradientPlan(repeated=frozenset([number])))

    def _unchanged(self, plan: GradientPlan, substitutes: Mapping[str, torch.Tensor] | None = None) -> bool:
        """Whether the network still gives the same outputs with a plan and substitutes, and depends on all of these."""
        try:
            outputs, _ = self._network.run(self._batch, SAMPLES, plan, substitutes=substitutes)
        except FAULTS:
            return False
        if any(all(leaf is not tensor for leaf in leaves(outputs)) for tensor in (substitutes or {}).values()):
            return False
        return close(outputs.detach(), self.outputs, SAME_SHAPE_TOLERANCE[self._network.dtype])

    def _next(self, plan: GradientPlan, layer: str, ways: Iterator[Way]) -> GradientPlan:
        """The plan with the next way for a layer that is possible; raises where none is left."""
        for way in ways:
            if (changed := way(plan)) is not None:
                return changed
        reason = self._faults.get(layer, "the gradient of a sample in a batch differs from its gradient alone")
        raise UnsupportedModelError(f"layer {layer!r}: {reason}")

    def _ways(self, layer: str) -> Iterator[Way]:
        """What can be tried for a layer after its rule, the cheapest first."""
        yield partial(self._otherwise_folded, layer)
        yield partial(self._expanded, layer)
        for module in self._modules_around(layer):
            yield partial(self._replayed, layer, Replay(module))
            if layer in self._faults:  # vmap cannot treat the module, which may still be the right one
                yield partial(self._replayed, layer, Replay(module, loop=True))

    def _otherwise_folded(self, layer: str, plan: GradientPlan) -> GradientPlan | None:
        """By its rule, with samples and positions folded the other way round: (positions, samples)."""
        numbers = {number for group in plan.by_rule.get(layer, ()) for number, _ in group.uses}
        axes = list(plan.axes)
        for number in numbers:
            pair = axes[number]
            if pair is not None and any(axis.folded for axis in pair):
                axes[number] = (replace(pair[0], samples_outside=False), replace(pair[1], samples_outside=False))
        return None if axes == list(plan.axes) else replace(plan, axes=tuple(axes))

    def _expanded(self, layer: str, plan: GradientPlan) -> GradientPlan | None:
        """With its parameters once for each sample, whose gradients come by sample from the same backward pass."""
        tensors, found = dict(self._network.trained()), {}
        for name in self._network.parameters[layer]:
            if name in plan.absent:
                continue
            tensor = tensors[name]
            candidates = [*([-1] if tensor.ndim and tensor.shape[0] == 1 else []), *range(_AXES)]
            for axes in candidates:
                if self._unchanged(plan=plan, substitutes={name: expanded(tensor, axes, SAMPLES)}):
                    found[name] = axes
                    break
            else:
                return None
        return replace(plan.without(layer), expanded={**plan.expanded, layer: found})

    def _replayed(self, layer: str, way: Replay, plan: GradientPlan) -> GradientPlan | None:
        """By running a module again for each sample."""
        plan, path = plan.without(layer), way.module
        if not self._network.watchable(path):
            return None
        if path not in plan.call_axes:
            batch, one = (
                self._network.run(inputs, samples, plan, watched=[path])[1].calls.get(path, [])
                for inputs, samples in ((self._batch, SAMPLES), (taken(self._batch, [0]), 1))
            )
            if not batch or len(batch) != len(one):
                return None
            axes = [call_axes(*pair, SAMPLES) for pair in zip(batch, one, strict=True)]
            known = tuple(of_call for of_call in axes if of_call is not None)
            if len(known) < len(axes):
                return None
            plan = replace(plan, call_axes={**plan.call_axes, path: known})
        return replace(plan, replayed={**plan.replayed, layer: way})

    def _modules_around(self, layer: str) -> Iterator[str]:
        """Modules that contain all owners of the layer's parameters, from the smallest to the whole network."""
        homes = {home for name in self._network.parameters[layer] for home in self._network.homes[name]}
        paths = [home.split(".") if home else [] for home in homes]
        common: list[str] = []
        for parts in zip(*paths, strict=False):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        for count in range(len(common), -1, -1):
            yield ".".join(common[:count])

    def _rows(self, plan: GradientPlan, layers: Sequence[str]) -> dict[str, Rows]:
        """The rows of the layers, except those whose way raises an error."""

        def derivatives_of(_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
            return self._residuals, torch.ones(SAMPLES, dtype=torch.float64, device=self._network.device), None

        for layer in layers:
            self._faults.pop(layer, None)
        try:
            return self._network.rows(layers, self._batch, SAMPLES, plan, derivatives_of)[0]
        except FAULTS as error:
            if len(layers) == 1:
                self._faults[layers[0]] = f"its gradients cannot be computed: {error or type(error).__name__}"
                return {}
        middle = len(layers) // 2
        return self._rows(plan, layers[:middle]) | self._rows(plan, layers[middle:])

    def _agrees(self, layer: str, rows: Rows | None, reference: _Reference) -> bool:
        """Whether the rows have the norms of autograd's gradients, and their products with random vectors.

        Gradients that are not finite, as those of a network that has diverged, tell nothing: autograd has 0 * NaN of
        the other samples in them, too.
        """
        if rows is None:
            return False
        norms = reference.norms[layer]
        size = max(float(_finite(norms).max()), _UNIMPORTANT * reference.network, 1e-300)
        allowed = TOLERANCE[self._network.dtype] * size
        random = [self._random[name] for name in self._network.parameters[layer]]
        try:
            agrees = [_near(rows.norms().cpu(), norms, allowed)]
            for number in range(VECTORS):
                vector = torch.cat([part.vector(number) for part in random])
                products = rows.project(vector[None])[:, 0].cpu()
                agrees.append(_near(products, reference.products[layer][:, number], _VECTOR_SLACK * allowed))
        except FAULTS as error:
            self._faults[layer] = f"its gradients cannot be computed: {error}"
            return False
        return all(agrees)


def _positions_outside(axis: SampleAxis, of_batch: torch.Tensor, of_one: torch.Tensor) -> bool:
    """Whether the first sample is found in a folded tensor only if its axis is (positions, samples) flattened."""
    alone = axis.first(of_one, 1)[0]
    found = (replace(axis, samples_outside=outside).first(of_batch, SAMPLES)[0] for outside in (True, False))
    outside, inside = (close(part, alone, TOLERANCE.get(part.dtype, 0.0)) for part in found)
    return inside and not outside


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with 0 for what is not finite."""
    return tensor.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _near(found: torch.Tensor, expected: torch.Tensor, allowed: float) -> bool:
    return bool((((found - expected).abs() <= allowed) | ~expected.isfinite()).all())
