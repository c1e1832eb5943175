"""Settles how the rows of each layer are made, and proves it on a few samples against autograd.

For each layer the ways are tried from the cheapest to the dearest, until one gives what autograd gives: a rule; its
parameters expanded over the samples; running the module again, or one that contains it, in the end the whole network.
This finds what no list of types can: weights used elsewhere, samples of a batch that influence one another, randomness.
The truth comes from the same forward pass, so that no ReLU is so near its kink that rounding decides; and it is never
held whole: of each parameter's gradient, only its norm and its products with two random vectors are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.network import Network, PlanMismatchError, expanded
from fishertail.gradients.plan import Layout, Plan, Replay, groups, layout
from fishertail.gradients.recording import Recording, Use
from fishertail.gradients.replay import call_layouts
from fishertail.gradients.rows import Rows
from fishertail.gradients.sums import lengths

SAMPLES = 3
_COMPARED = (0, 2)  # of these
_VECTORS = 2
_TILE = 1 << 12  # entries of the factor of a random vector
_VECTOR_SLACK = 3  # a product with a random vector is a norm times a normal number
_AXES = 4  # at most, between the samples and the axes of a parameter that is expanded
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-7}  # of the largest norm
_SAME_SHAPE_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of outputs from batches of one shape
_UNIMPORTANT = 1e-3  # of the network's norm: layers below are compared by this share of it, since rounding shows
_FAULTS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AttributeError, KeyError)


@dataclass(frozen=True)
class _Truth:
    """Of each layer: norms and products with random vectors, by sample."""

    norms: Mapping[str, torch.Tensor]  # (compared samples,) float64
    products: Mapping[str, torch.Tensor]  # (compared samples, _VECTORS) float64
    network: float  # the largest norm of a sample's whole gradient


@dataclass(frozen=True)
class Footprint:
    """Bytes for each sample of a batch."""

    graph: int  # what the forward pass keeps for the backward pass
    rows: Mapping[str, int]  # of each layer, as they are kept

    @property
    def batch(self) -> int:
        """In all; derivatives take as much as what they are by."""
        return max(2 * self.graph + sum(self.rows.values()), 1)


class Probe:
    """
    Args:
        network: whose plan is wanted.
        samples: inputs of SAMPLES samples on its device; see `probe_index`.

    Attributes:
        outputs: of these samples, once it was run.
    """

    def __init__(self, network: Network, samples: Any):
        self._network, self._batch = network, samples
        self._first = _sample(samples, [0])
        self._faults: dict[str, str] = {}  # of layers whose way raised

    def run(self) -> tuple[Plan, Footprint]:
        """The plan, proven.

        Raises:
            UnsupportedModelError: names the layer and the reason.
        """
        aliases = self._network.aliases()
        with _SavedBytes(self._network) as saved:
            outputs, together = self._run(self._batch, substitutes=aliases, watched=[""])
        alone = self._check_independence(outputs.detach())
        generator = torch.Generator().manual_seed(0)
        self._residuals = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
        shapes, like = self._network.shapes, {"dtype": self._network.dtype, "device": self._network.device}
        self._random = {name: _RandomVectors(shape.numel(), generator, like) for name, shape in shapes.items()}
        truth = self._truth(outputs, aliases)
        self.outputs = outputs.detach()
        outputs = together.outputs = None
        plan = self._first_plan(together.uses, alone.uses)
        if (of_all := call_layouts(together.calls[""][0], alone.calls[""][0], SAMPLES)) is not None:
            plan = replace(plan, call_layouts={"": (of_all,)})
        ways = {layer: self._ways(layer) for layer in self._network.layers}
        pending = [layer for layer in self._network.layers if layer not in plan.by_rule]
        while True:
            for layer in pending:
                plan = self._next(plan, layer, ways[layer])
            rows = self._rows(plan, self._network.layers)
            pending = [layer for layer in self._network.layers if not self._agrees(layer, rows.get(layer), truth)]
            if not pending:
                return plan, Footprint(
                    saved.bytes // SAMPLES, {layer: part.nbytes // SAMPLES for layer, part in rows.items()}
                )

    def _run(self, inputs: Any, samples: int = SAMPLES, plan: Plan | None = None, **options):
        try:
            return self._network.run(inputs, samples, plan, **options)
        except UnsupportedModelError:
            raise
        except _FAULTS as error:
            leaves = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
            shapes = ", ".join(f"{leaf.dtype} {tuple(leaf.shape)}" for leaf in leaves)
            own = self._network.dtype
            other = any(leaf.dtype != own for leaf in leaves if leaf.is_floating_point() or leaf.dtype == torch.uint8)
            hint = f"; its parameters are {own}, which the images may have to be, too" if other else ""
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnsupportedModelError(
                f"the model cannot be called with a batch of {samples} ({shapes}): {reason}{hint}"
            ) from error

    def _check_independence(self, together: torch.Tensor) -> Recording:
        """Refuse a network in which samples influence one another; gives what was recorded of the first alone."""
        alone, recording = self._run(self._first, 1, watched=[""])
        surrounded = self._run(_sample(self._batch, [2, 1, 1]))[0].detach()[1]  # by others than in the batch
        for found, expected, tolerance in (
            (alone.detach()[0], together[0], _TOLERANCE[self._network.dtype]),
            (surrounded, together[1], _SAME_SHAPE_TOLERANCE[self._network.dtype]),
        ):
            if not _close(found, expected, tolerance):
                raise UnsupportedModelError(
                    "the output of a sample in a batch differs from its output alone: samples of a batch influence one "
                    "another, or the network is random; per-sample gradients are not defined"
                )
        return recording

    def _truth(self, outputs: torch.Tensor, aliases: Mapping[str, torch.Tensor]) -> _Truth:
        """By autograd, each sample by itself; a gradient is summarised as it comes, and not kept."""
        network = self._network
        layers = {name: layer for layer, own in network.parameters.items() for name in own}
        norms = {layer: torch.zeros(len(_COMPARED), dtype=torch.float64) for layer in network.layers}
        products = {layer: torch.zeros(len(_COMPARED), _VECTORS, dtype=torch.float64) for layer in network.layers}
        wanted = [aliases[name] for name in layers]

        def summarise(name: str, row: int, gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.to_dense() if gradient.layout != torch.strided else gradient
            flat, layer = gradient.flatten(), layers[name]
            norms[layer][row] = torch.hypot(norms[layer][row], lengths(flat[None])[0].cpu())
            products[layer][row] += self._random[name].products(flat)
            return gradient.new_zeros(()).expand_as(gradient)

        for row, sample in enumerate(_COMPARED if outputs.requires_grad else ()):
            of_one = torch.zeros_like(self._residuals)
            of_one[sample] = self._residuals[sample]
            hooks = [aliases[name].register_hook(partial(summarise, name, row)) for name in layers]
            try:
                torch.autograd.grad(outputs, wanted, of_one, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                raise UnsupportedModelError(f"the network cannot be differentiated: {error}") from error
            for hook in hooks:
                hook.remove()
        largest = torch.linalg.vector_norm(torch.stack(list(norms.values())).nan_to_num(), dim=0).max()
        return _Truth(norms, products, float(largest))

    def _first_plan(self, together: Sequence[Use], alone: Sequence[Use]) -> Plan:
        """Every layer by its rule, as far as its uses are understood."""
        signatures = tuple(use.signature for use in together)
        if signatures != tuple(use.signature for use in alone):
            return Plan()
        layouts, repeated = [], set()
        for number, (batch, one) in enumerate(zip(together, alone, strict=True)):
            pair = (layout(batch.input.shape, one.input.shape, SAMPLES), layout(batch.shape, one.shape, SAMPLES))
            if pair == (Layout(None), Layout(None)) and self._repeats(number):
                repeated.add(number)
                pair = (Layout(0), Layout(0))
            understood = None not in pair and all(part.axis is not None for part in pair)
            layouts.append(pair if understood else (None, None))
        plan = Plan(signatures, tuple(layouts), frozenset(repeated))
        by_rule = {}
        for layer, parameters in self._network.parameters.items():
            found = groups(parameters, [use.parameters for use in together])
            if all(layouts[number] != (None, None) for group in found for number, _ in group.uses):
                by_rule[layer] = found
        return replace(plan, by_rule=by_rule)

    def _repeats(self, number: int) -> bool:
        """Whether an output without samples may be repeated for each of them."""
        return self._unchanged(plan=Plan(repeated=frozenset([number])))

    def _unchanged(self, **options) -> bool:
        """Whether the network gives the same outputs when it is run so."""
        try:
            outputs, _ = self._network.run(self._batch, SAMPLES, **options)
        except (*_FAULTS, UnsupportedModelError):
            return False
        return outputs.shape == self.outputs.shape and _close(
            outputs.detach(), self.outputs, _SAME_SHAPE_TOLERANCE[self._network.dtype]
        )

    def _next(self, plan: Plan, layer: str, ways: Iterator[Callable[[Plan], Plan | None]]) -> Plan:
        for way in ways:
            if (changed := way(plan)) is not None:
                return changed
        reason = self._faults.get(layer, "the gradient of a sample in a batch differs from its gradient alone")
        raise UnsupportedModelError(f"layer {layer!r}: {reason}")

    def _ways(self, layer: str) -> Iterator[Callable[[Plan], Plan | None]]:
        """What can be tried for a layer after its rule, the cheapest first."""
        yield partial(self._otherwise_folded, layer)
        yield partial(self._expanded, layer)
        for module in self._modules_around(layer):
            yield partial(self._replayed, layer, Replay(module))
            if layer in self._faults:  # vmap cannot treat the module: no sign that it is the wrong one
                yield partial(self._replayed, layer, Replay(module, loop=True))

    def _otherwise_folded(self, layer: str, plan: Plan) -> Plan | None:
        """Samples and positions share an axis, the positions outside."""
        numbers = {number for group in plan.by_rule.get(layer, ()) for number, _ in group.uses}
        folded = {number for number in numbers if any(part.folded for part in plan.layouts[number])}
        if not folded:
            return None
        layouts = [
            tuple(replace(part, samples_outside=False) for part in pair) if number in folded else pair
            for number, pair in enumerate(plan.layouts)
        ]
        return replace(plan, layouts=tuple(layouts))

    def _expanded(self, layer: str, plan: Plan) -> Plan | None:
        """Its parameters once for each sample, so that their gradients come by sample from the same backward pass."""
        tensors, found = dict(self._network.trained()), {}
        for name in self._network.parameters[layer]:
            tensor = tensors[name]
            candidates = [*([-1] if tensor.ndim and tensor.shape[0] == 1 else []), *range(_AXES)]
            for axes in candidates:
                if self._unchanged(plan=plan, substitutes={name: expanded(tensor, axes, SAMPLES)}):
                    found[name] = axes
                    break
            else:
                return None
        return replace(_without(plan, layer), expanded={**plan.expanded, layer: found})

    def _replayed(self, layer: str, way: Replay, plan: Plan) -> Plan | None:
        """By running a module again."""
        plan, path = _without(plan, layer), way.module
        if not self._network.watchable(path):
            return None
        if path not in plan.call_layouts:
            batch, one = (
                self._run(inputs, samples, plan, watched=[path])[1].calls.get(path, [])
                for inputs, samples in ((self._batch, SAMPLES), (self._first, 1))
            )
            if not batch or len(batch) != len(one):
                return None
            layouts = tuple(call_layouts(*pair, SAMPLES) for pair in zip(batch, one, strict=True))
            if None in layouts:
                return None
            plan = replace(plan, call_layouts={**plan.call_layouts, path: layouts})
        return replace(plan, replayed={**plan.replayed, layer: way})

    def _modules_around(self, layer: str) -> Iterator[str]:
        """The smallest module that contains all uses of the layer's parameters as far as their places tell, and up."""
        homes = {home for name in self._network.parameters[layer] for home in self._network.homes[name]}
        paths = [home.split(".") if home else [] for home in homes]
        common = []
        for parts in zip(*paths, strict=False):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        for count in range(len(common), -1, -1):
            yield ".".join(common[:count])

    def _rows(self, plan: Plan, layers: Sequence[str]) -> dict[str, Rows]:
        """The rows of the layers, without those whose way raises."""

        def derivatives_of(_):
            return self._residuals, torch.ones(SAMPLES, dtype=torch.float64, device=self._network.device), None

        for layer in layers:
            self._faults.pop(layer, None)
        try:
            return self._network.rows(layers, self._batch, SAMPLES, plan, derivatives_of)[0]
        except (*_FAULTS, PlanMismatchError) as error:
            if len(layers) == 1:
                self._faults[layers[0]] = f"its gradients cannot be computed: {error or type(error).__name__}"
                return {}
        middle = len(layers) // 2
        return self._rows(plan, layers[:middle]) | self._rows(plan, layers[middle:])

    def _agrees(self, layer: str, rows: Rows | None, truth: _Truth) -> bool:
        """Whether the rows are the gradients: by their norms, and by products with random vectors."""
        if rows is None:
            return False
        norms = truth.norms[layer]
        allowed = _TOLERANCE[self._network.dtype] * max(float(norms.max()), _UNIMPORTANT * truth.network, 1e-300)
        random = [self._random[name] for name in self._network.parameters[layer]]
        try:
            compared = rows.take(torch.tensor(_COMPARED, device=self._network.device))
            found = [compared.norms().cpu() - norms]
            for number in range(_VECTORS):
                vector = torch.cat([part.vector(number) for part in random])
                products = compared.project(vector[None])[:, 0].cpu()
                found.append((products - truth.products[layer][:, number]) / _VECTOR_SLACK)
        except _FAULTS as error:
            self._faults[layer] = f"its gradients cannot be computed: {error}"
            return False
        return all(bool((part.abs() <= allowed).all()) for part in found)


class _RandomVectors:
    """Random vectors of a parameter space (P,): outer products of two normal ones, held as their factors."""

    def __init__(self, size: int, generator: torch.Generator, like: Mapping[str, Any]):
        self._size, self._width = size, min(_TILE, max(size, 1))
        tiles = -(-size // self._width)
        self._left = torch.randn(_VECTORS, tiles, generator=generator).to(**like)
        self._right = torch.randn(_VECTORS, self._width, generator=generator).to(**like)

    def vector(self, number: int) -> torch.Tensor:
        """(P,)."""
        return torch.outer(self._left[number], self._right[number]).flatten()[: self._size]

    def products(self, gradient: torch.Tensor) -> torch.Tensor:
        """(_VECTORS,) float64 with a gradient (P,)."""
        whole = self._size // self._width * self._width
        by_tile = gradient[:whole].view(-1, self._width) @ self._right.T  # (tiles, _VECTORS)
        found = (by_tile.double() * self._left[:, : len(by_tile)].T).sum(0)
        if whole < self._size:
            rest = self._right[:, : self._size - whole] * self._left[:, -1:]
            found += (rest @ gradient[whole:]).double()
        return found.cpu()


class _SavedBytes(saved_tensors_hooks):
    """Counts what a forward pass keeps for the backward pass, each piece of memory once."""

    def __init__(self, network: Network):
        self._own = {tensor.untyped_storage().data_ptr() for tensor in network.model.state_dict().values()}
        self._seen: dict[int, int] = {}
        super().__init__(self._pack, lambda tensor: tensor)

    def __enter__(self):
        super().__enter__()
        return self

    @property
    def bytes(self) -> int:
        return sum(self._seen.values())

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._own:
                self._seen[storage.data_ptr()] = storage.nbytes()
        return tensor


def probe_index(samples: int) -> torch.Tensor:
    """The first, the middle and the last; the same again where there are fewer."""
    return torch.linspace(0, samples - 1, SAMPLES).long()


def _sample(inputs: Any, index: Sequence[int]) -> Any:
    return tree_map_only(torch.Tensor, lambda tensor: tensor[list(index)], inputs)


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    size = float(expected.abs().nan_to_num(posinf=0.0, neginf=0.0).max()) if expected.numel() else 0.0
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def _without(plan: Plan, layer: str) -> Plan:
    """The plan without what it had for a layer."""
    parts = {
        name: {key: value for key, value in getattr(plan, name).items() if key != layer}
        for name in ("by_rule", "expanded", "replayed")
    }
    return replace(plan, **parts)
