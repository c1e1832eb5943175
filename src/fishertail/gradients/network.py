"""`Network`: a private copy of the user's model, its layers, and the rows of a batch by a plan."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map_only

from fishertail import devices
from fishertail.errors import UnsupportedModelError
from fishertail.gradients.gradient_plan import ALONE, CallAxes, GradientPlan, Replay
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rules.module_rules import MODULE_RULES
from fishertail.gradients.model_checks import NETWORK, check_model, layers_of, refuse_undefined_gradients
from fishertail.gradients.model_outputs import called, chosen_output, positional
from fishertail.gradients.module_replay import replay
from fishertail.gradients.plan_check import PlanMismatchError, check_plan, resized
from fishertail.gradients.private_copy import (
    LOW_PRECISION,
    Place,
    computable,
    is_script,
    private_copy,
    substituted,
    unwrapped,
)
from fishertail.gradients.recording import (
    ModuleCall,
    Recorder,
    Recording,
    Removable,
    gradients_at,
    leaves,
    own_leaf,
    watch,
)
from fishertail.gradients.rows_by_rule import rows_of_layers

__all__ = ["NETWORK", "Network", "expanded", "full_precision"]

More = TypeVar("More")


class Network:
    """The private copy of a model on a device, in float32 or float64.

    Args:
        model: the user's, which is not changed.
        layers: names of the layers that are wanted; all by default.
        device: where to compute, `auto` for an accelerator if there is one; where the model is by default.
        output: which of several outputs the loss is of: the key or attribute of a mapping or an object, or the place
            in a tuple.

    Attributes:
        layers: names, in the order of the model's parameters.
        parameters: names of the trained parameters of each layer.
        sizes: number of parameters of each layer.
        shapes: of the trained parameters, by name.
        places: of the trained parameters, by name: the modules of the copy that own them, and the name there.
        homes: the names of these modules.
        output: as given.
        channels_last: whether pictures are put into the memory format that is best for convolutions.
        overwrites: whether the model was seen to write into its inputs.
        copied: whether it is given copies of them.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        output: str | int | None = None,
    ) -> None:
        check_model(model)
        model = unwrapped(model)
        refuse_undefined_gradients(model)
        own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.device = devices.resolved(own if device is None else device)
        self._source = computable(model, own, self.device)
        self._users = model
        self.dtype = next((p.dtype for p in self._source.parameters() if p.is_floating_point()), torch.float32)
        self.output = output
        self.channels_last = any(isinstance(module, nn.Conv2d) for module in model.modules())
        self.overwrites, self.copied = False, True
        self.copy()
        trained = dict(self.trained())
        self.shapes = {name: parameter.shape for name, parameter in trained.items()}
        self.parameters = layers_of(self.model, trained, self._names, layers)
        self.layers = tuple(self.parameters)
        self.sizes = {layer: sum(trained[name].numel() for name in own) for layer, own in self.parameters.items()}

    def trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and values of all trained parameters."""
        for name, of_it in self.places.items():
            module, attribute = of_it[0]
            parameter = module._parameters[attribute]
            assert parameter is not None
            yield name, parameter

    def copy(self, deep: bool = False) -> None:
        """Make the private copy, see `private_copy`, and find where it has the trained parameters."""
        self.model = private_copy(self._source, deep)
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self._names = {id(parameter): name for name, parameter in trained.items()}
        self.places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in trained}
        self.homes: dict[str, list[str]] = {name: [] for name in trained}
        for path, module in self.model.named_modules():
            for attribute, parameter in module._parameters.items():
                if (name := self._names.get(id(parameter))) is not None:
                    self.places[name].append((module, attribute))
                    self.homes[name].append(path)

    def passed_by(self, outputs: torch.Tensor) -> list[str]:
        """Names of the user's own trained parameters that outputs depend on, past the private copy.

        Those of compiled scripts do not count: a copy of these shares the original's place in autograd's graph.
        """
        reached = {id(leaf) for leaf in leaves(outputs)}
        users = (pair for model in (self._users, self._source) for pair in model.named_parameters())
        scripted = {name for name, places in self.places.items() if any(is_script(module) for module, _ in places)}
        return list(dict.fromkeys(name for name, each in users if id(each) in reached and name not in scripted))

    def watchable(self, path: str) -> bool:
        """Whether the calls of a module can be recorded: not inside a compiled script."""
        return not path or not is_script(dict(self.model.named_modules())[path])

    def cast(self, inputs: Any) -> Any:
        """Inputs in the precision of the network, and pictures in the memory format that it takes them in."""

        def of_one(tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.to(self.dtype) if tensor.dtype in LOW_PRECISION else tensor
            pictures = tensor.ndim == 4 and self.channels_last
            return tensor.contiguous(memory_format=torch.channels_last) if pictures else tensor

        return tree_map_only(torch.Tensor, of_one, inputs)

    def run(
        self,
        inputs: Any,
        samples: int,
        plan: GradientPlan | None = None,
        watched: Collection[str] = (),
        substitutes: Mapping[str, torch.Tensor] | None = None,
        apart: Mapping[str, Collection[str]] | None = None,
    ) -> tuple[torch.Tensor, Recording]:
        """One forward pass with gradients.

        Args:
            inputs: a tensor, a tuple of arguments or a mapping of named ones.
            plan: which outputs to repeat, see `GradientPlan`.
            watched: names of modules whose calls are recorded.
            substitutes: tensors that take the place of parameters, by name.
            apart: by watched module, names of parameters for which its calls take leaves of their own, as every use
                that is recorded does then: the output depends on a parameter itself only by what is neither. By default
                nothing takes leaves of its own.

        Returns:
            the output (n, ...), and what was recorded.
        """
        modules = dict(self.model.named_modules())
        trained = dict(self.trained()) if apart else {}
        inside = {path: {name: own_leaf(trained[name]) for name in own} for path, own in (apart or {}).items()}
        named = [(substitutes or {}), *inside.values()]
        names = self._names | {id(tensor): name for tensors in named for name, tensor in tensors.items()}
        cut = () if apart is None else frozenset(self._names)
        recorder = Recorder(names, plan.repeated if plan else frozenset(), samples, cut)
        replaced = self._at_places({**(substitutes or {}), **inside.pop("", {})})
        handles: list[Removable] = []
        for path in watched:
            if path:
                handles += watch(modules[path], path, recorder.recording, self._at_places(inside.get(path, {})))
        for module in modules.values():
            if rule := MODULE_RULES.get(type(module)):
                own = {a: self._names[id(p)] for a, p in module._parameters.items() if id(p) in self._names}
                handles += recorder.module_hooks(module, rule, own)
        try:
            with torch.enable_grad(), substituted(replaced), recorder:
                outputs = self._called(inputs)
        finally:
            for handle in handles:
                handle.remove()
        recorder.recording.outputs = outputs
        if "" in watched:  # the whole model, by its arguments here: a compiled script takes no hooks
            args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (positional(inputs), {})
            recorder.recording.calls[""] = [ModuleCall.of(args, kwargs, outputs)]
        return chosen_output(outputs, self.output, samples), recorder.recording

    def _at_places(self, tensors: Mapping[str, torch.Tensor]) -> dict[Place, torch.Tensor]:
        """Tensors by name, for every place that has the parameter."""
        return {place: tensor for name, tensor in tensors.items() for place in self.places[name]}

    def outputs(self, inputs: Any, samples: int) -> torch.Tensor:
        """The output (n, ...) by a forward pass alone, of inputs as `run` takes them."""
        with Recorder({}):  # in which no function writes into a weight
            return chosen_output(self._called(inputs), self.output, samples)

    def _called(self, inputs: Any) -> Any:
        """What the model returns for inputs that may be the user's own data."""
        given = tree_map_only(torch.Tensor, torch.clone, inputs) if self.copied else inputs
        before = _versions(given)
        outputs = called(self.model, given)
        if _versions(given) != before:
            self.overwrites = True
            if not self.copied:
                raise UnsupportedModelError("the model overwrites its inputs, but only for some of the samples")
        return outputs

    def rows(
        self,
        layers: Collection[str],
        inputs: Any,
        samples: int,
        plan: GradientPlan,
        derivatives_of: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, More]],
    ) -> tuple[dict[str, Rows], More]:
        """The rows of some layers, from one forward and one backward pass.

        Args:
            derivatives_of: called with the detached output; returns the derivatives (n, ...) of the loss by it, the
                scale (n,) float64 by which they were divided, and anything more.

        Returns:
            the rows, and what `derivatives_of` returned more.

        Raises:
            PlanMismatchError: the network ran differently from how the plan has it.
        """
        (found,) = self.rows_of_losses(layers, inputs, samples, plan, [derivatives_of])
        return found

    def rows_of_losses(
        self,
        layers: Collection[str],
        inputs: Any,
        samples: int,
        plan: GradientPlan,
        derivatives_of: Sequence[Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, More]]],
    ) -> Iterator[tuple[dict[str, Rows], More]]:
        """The rows by each of several losses in turn, from one forward pass and a backward pass for each.

        See `rows`; whether the plan holds is found out before the first.
        """
        expansions = self._expansions(layers, plan, samples)
        watched = {plan.replayed[layer].module for layer in layers if layer in plan.replayed}
        numbers = sorted({n for layer in layers for g in plan.by_rule.get(layer, ()) for n, _ in g.uses})
        try:
            outputs, recording = self.run(inputs, samples, plan, watched, expansions, self._inside(layers, plan))
        except Exception as error:
            if expansions or plan.repeated:  # which may not fit what the network does with them for this batch
                raise PlanMismatchError from error
            raise
        check_plan(plan, recording, numbers, watched, samples)
        calls = [
            (path, call, axes)
            for path in watched
            for call, axes in zip(recording.calls.get(path, ()), plan.call_axes[path], strict=True)
        ]
        edges = [recording.uses[number].edge for number in numbers]
        edges += [get_gradient_edge(leaf) for leaf in expansions.values()]
        edges += [edge for _, call, _ in calls for edge in call.edges]
        apart = self._apart(layers, plan)
        shapes = {layer: {name: self.shapes[name] for name in self.parameters[layer]} for layer in layers}
        unused = [get_gradient_edge(tensor) for name, tensor in self.trained() if name in apart]
        for number, of_loss in enumerate(derivatives_of, start=1):
            last = number == len(derivatives_of)
            derivatives, scale, more = of_loss(outputs.detach())
            found = iter(gradients_at(outputs, [*unused, *edges], derivatives, again=not last))
            if any(next(found) is not None for _ in unused):
                raise PlanMismatchError("a parameter is used in an operation without a rule")
            if last:
                del outputs
                recording.outputs = None  # frees the graph
            at_uses = {number: next(found) for number in numbers}
            gradients = {name: next(found) for name in expansions}
            for path, call, axes in calls:
                at_call = [_shaped(next(found), shape) for shape in call.shapes]
                for name, part in self._replayed(layers, plan, path, call, axes, at_call, samples).items():
                    before = gradients.get(name)
                    gradients[name] = part if before is None else before + part
            yield rows_of_layers(plan, shapes, recording.uses, at_uses, gradients, scale, self.dtype), more

    def plan_for_shape(self, plan: GradientPlan, sample: Any) -> GradientPlan:
        """The plan for samples that are shaped like this one, a batch of one."""
        return resized(plan, self.run(sample, 1, plan, plan.call_axes)[1])

    def summed_gradients(
        self, inputs: Any, samples: int, derivatives_of: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The gradients of a batch by parameter, summed over its samples by an ordinary backward pass.

        Args:
            derivatives_of: called with the detached output; returns the derivatives of the sum by it.
        """
        outputs, recording = self.run(inputs, samples)
        recording.outputs = None  # frees the graph
        edges = [get_gradient_edge(parameter) for _, parameter in self.trained()]
        found = gradients_at(outputs, edges, derivatives_of(outputs.detach()))
        return {name: _dense(part, self.shapes[name], outputs) for name, part in zip(self.shapes, found, strict=True)}

    def _inside(self, layers: Collection[str], plan: GradientPlan) -> dict[str, list[str]]:
        """Names of the parameters whose gradients come from running a module again, by that module."""
        found: dict[str, list[str]] = {}
        for layer in layers:
            if (way := plan.replayed.get(layer)) is not None and way != ALONE:
                found.setdefault(way.module, []).extend(self.parameters[layer])
        return found

    def _apart(self, layers: Collection[str], plan: GradientPlan) -> frozenset[str]:
        """Names of the parameters that the outputs must not depend on but by what the plan knows."""
        settled = [layer for layer in layers if plan.replayed.get(layer) != ALONE]
        return plan.absent.union(name for layer in settled for name in self.parameters[layer])

    def _expansions(self, layers: Collection[str], plan: GradientPlan, samples: int) -> dict[str, torch.Tensor]:
        """The parameters that the plan expands over the samples, layer by layer."""
        tensors = dict(self.trained()) if plan.expanded else {}
        return {
            name: expanded(tensors[name], axes, samples)
            for layer in layers
            for name, axes in plan.expanded.get(layer, {}).items()
        }

    def _replayed(
        self,
        layers: Collection[str],
        plan: GradientPlan,
        path: str,
        call: ModuleCall,
        axes: CallAxes,
        derivatives: Sequence[torch.Tensor | None],
        samples: int,
    ) -> dict[str, torch.Tensor]:
        """(n, *shape) of the parameters of all layers for which a module is run again."""
        module = dict(self.model.named_modules())[path]
        gradients: dict[str, torch.Tensor] = {}
        for loop in (False, True):
            of_it = [layer for layer in layers if plan.replayed.get(layer) == Replay(path, loop)]
            places = {name: self.places[name] for layer in of_it for name in self.parameters[layer]}
            if places:
                gradients |= replay(module, places, call, axes, derivatives, samples, loop)
        return gradients


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """A context without inference mode, gradients and autocast, whatever the caller has set."""
    with torch.inference_mode(False), torch.no_grad(), devices.without_autocast(device):
        yield


def expanded(parameter: torch.Tensor, axes: int, samples: int) -> torch.Tensor:
    """A leaf (n, ...) that holds the parameter once for each sample, without a copy.

    Args:
        axes: number of axes of length 1 between that of the samples and those of the parameter; -1 where the
            parameter's own first axis, of length 1, becomes that of the samples.
    """
    tensor = parameter.detach()
    if axes < 0:
        return tensor.expand(samples, *tensor.shape[1:]).requires_grad_()
    between = (1,) * axes
    return tensor.reshape(1, *between, *tensor.shape).expand(samples, *between, *tensor.shape).requires_grad_()


def _versions(tree: Any) -> list[int]:
    """How often each tensor has been written into."""
    return [leaf._version for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _dense(gradient: torch.Tensor | None, shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
    """A gradient that may be sparse, or missing where nothing depends on the parameter."""
    if gradient is None:
        return like.new_zeros(shape)
    return gradient.to_dense() if gradient.layout != torch.strided else gradient


def _shaped(derivative: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
    return None if derivative is None else derivative.reshape(shape)
