"""A network as fishertail runs it: a private double of the user's, its layers, and the rows of a batch by a plan."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_map_only

from fishertail import devices
from fishertail.errors import UnsupportedModelError
from fishertail.gradients import shared_rows
from fishertail.gradients.layer_rules import MODULE_RULES, FunctionRule
from fishertail.gradients.plan import Group, Plan, Replay
from fishertail.gradients.recording import ModuleCall, Recorder, Recording, Use, gradients_at, module_call, watch
from fishertail.gradients.replay import CallLayouts, replay
from fishertail.gradients.rows import BlockRows, DenseRows, Rows
from fishertail.gradients.twin import moved, substituted, twin_of, unwrapped

NETWORK = "network"
_LOW_PRECISION = (torch.bfloat16, torch.float16)


class PlanMismatchError(Exception):
    """The network called other functions for this batch than the plan was made for."""


class Network:
    """The double of a model on a device, in float32 or float64.

    Args:
        model: the user's, which is not changed.
        layers: names of the layers that are wanted; all by default.
        device: where to compute, `auto` for an accelerator if there is one; where the model is by default.
        output: which of several outputs counts: the key or attribute of a mapping or an object, or the place in a
            tuple.

    Attributes:
        layers: names, in the order of the model's parameters.
        parameters: names of the trained parameters of each layer.
        sizes: numbers of parameters of each layer.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        output: str | int | None = None,
    ):
        model = unwrapped(model)
        _refuse(model)
        own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.device = devices.resolved(own if device is None else device)
        kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
        scripted = any(map(_is_script, model.modules()))  # it cannot be doubled
        if self.device != own or not kinds.isdisjoint(_LOW_PRECISION) or _made_for_inference(model) or scripted:
            model = _copied(model, self.device)
            if not kinds.isdisjoint(_LOW_PRECISION):
                model = model.float()
        self.model = twin_of(model)
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self._output = output
        self._conv = any(isinstance(module, nn.Conv2d) for module in model.modules())
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.shapes = {name: parameter.shape for name, parameter in trained.items()}
        self._names = {id(parameter): name for name, parameter in trained.items()}
        self.parameters = _layers(self.model, trained, self._names, layers)
        self.layers = tuple(self.parameters)
        self.sizes = {layer: sum(trained[name].numel() for name in own) for layer, own in self.parameters.items()}
        self.places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in trained}
        self.homes: dict[str, list[str]] = {name: [] for name in trained}  # names of these modules
        for path, module in self.model.named_modules():
            for attribute, parameter in module._parameters.items():
                if (name := self._names.get(id(parameter))) is not None:
                    self.places[name].append((module, attribute))
                    self.homes[name].append(path)

    def trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names and values of all trained parameters."""
        for name, of_it in self.places.items():
            module, attribute = of_it[0]
            yield name, module._parameters[attribute]

    def aliases(self) -> dict[str, torch.Tensor]:
        """Tensors that share the memory of the trained parameters, on which hooks disturb nobody."""
        return {
            name: tensor
            if any(map(_is_script, (m for m, _ in self.places[name])))
            else tensor.detach().requires_grad_()
            for name, tensor in self.trained()
        }

    def watchable(self, path: str) -> bool:
        """Whether the calls of a module can be recorded: not inside a compiled script."""
        return not path or not _is_script(dict(self.model.named_modules())[path])

    def cast(self, inputs: Any) -> Any:
        """Inputs in the precision that is computed in, and pictures in the memory format that convolutions like."""

        def of_one(tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.to(self.dtype) if tensor.dtype in _LOW_PRECISION else tensor
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 and self._conv else tensor

        return tree_map_only(torch.Tensor, of_one, inputs)

    def run(
        self,
        inputs: Any,
        samples: int,
        plan: Plan | None = None,
        watched: Collection[str] = (),
        substitutes: Mapping[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, Recording]:
        """One forward pass with gradients.

        Args:
            inputs: a tensor, a tuple of arguments or a mapping of named ones.
            plan: which outputs to repeat, see `Plan`.
            watched: names of modules whose calls are recorded.
            substitutes: tensors that take the place of parameters, by name.

        Returns:
            the output (n, ...), and what was recorded.
        """
        names = self._names | {id(tensor): name for name, tensor in (substitutes or {}).items()}
        recorder = Recorder(names, plan.repeated if plan else frozenset(), samples)
        modules = dict(self.model.named_modules())
        replaced = {place: tensor for name, tensor in (substitutes or {}).items() for place in self.places[name]}
        handles = [handle for path in watched if path for handle in watch(modules[path], path, recorder.recording)]
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
        if "" in watched:  # a compiled script takes no hooks
            args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (_positional(inputs), {})
            recorder.recording.calls[""] = [module_call(args, kwargs, outputs)]
        return self._chosen(outputs, samples), recorder.recording

    def rows(
        self,
        layers: Collection[str],
        inputs: Any,
        samples: int,
        plan: Plan,
        derivatives_of: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, Any]],
    ) -> tuple[dict[str, Rows], Any]:
        """The rows of some layers, from one forward and one backward pass.

        Args:
            derivatives_of: called with the detached output; gives the derivatives (n, ...) of the loss by it, the scale
                (n,) float64 by which they were divided, and anything more.

        Returns:
            the rows, and what `derivatives_of` gave more.
        """
        leaves = {
            name: expanded(tensor, plan.expanded[layer][name], samples)
            for name, tensor in self.trained()
            for layer in [name.rpartition(".")[0]]
            if layer in layers and name in plan.expanded.get(layer, ())
        }
        watched = {plan.replayed[layer].module for layer in layers if layer in plan.replayed}
        outputs, recording = self.run(inputs, samples, plan, watched, leaves)
        if plan.by_rule and tuple(use.signature for use in recording.uses) != plan.signatures:
            raise PlanMismatchError
        if any(len(recording.calls.get(path, ())) != len(plan.call_layouts[path]) for path in watched):
            raise PlanMismatchError
        derivatives, scale, more = derivatives_of(outputs.detach())
        numbers = sorted({n for layer in layers for g in plan.by_rule.get(layer, ()) for n, _ in g.uses})
        own = [name for layer in layers for name in plan.expanded.get(layer, ())]
        calls = [
            (path, call, layouts)
            for path in watched
            for call, layouts in zip(recording.calls.get(path, ()), plan.call_layouts[path], strict=True)
        ]
        edges = [recording.uses[number].edge for number in numbers]
        edges += [get_gradient_edge(leaves[name]) for name in own]
        edges += [edge for _, call, _ in calls for edge in call.edges]
        found = iter(gradients_at(outputs, edges, derivatives))
        recording.outputs = outputs = None  # frees the graph
        at_uses = {number: next(found) for number in numbers}
        gradients = {name: next(found) for name in own}
        for path, call, layouts in calls:
            at_call = [_shaped(next(found), shape) for shape in call.shapes]
            for name, part in self._replayed(layers, plan, path, call, layouts, at_call, samples).items():
                gradients[name] = gradients[name] + part if name in gradients else part
        rows: dict[str, Rows] = {}
        for layer in layers:
            if layer in plan.by_rule:
                of_it = plan.by_rule[layer]
                blocks = [self._block(group, recording.uses, plan, at_uses, scale, samples) for group in of_it]
                sizes = [sum(self.shapes[name].numel() for name in group.parameters) for group in of_it]
                rows[layer] = blocks[0] if len(blocks) == 1 else BlockRows(tuple(blocks), tuple(sizes))
            else:
                flat = [self._flat(gradients.get(name), name, samples) for name in self.parameters[layer]]
                rows[layer] = DenseRows(torch.cat(flat, dim=1), scale)
        return rows, more

    def _called(self, inputs: Any) -> Any:
        return self.model(**inputs) if isinstance(inputs, Mapping) else self.model(*_positional(inputs))

    def _chosen(self, outputs: Any, samples: int) -> torch.Tensor:
        """The tensor that the loss is of."""
        chosen = outputs
        if self._output is not None:
            try:
                by_key = isinstance(outputs, Mapping | tuple | list)
                chosen = outputs[self._output] if by_key else getattr(outputs, self._output)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise UnsupportedModelError(
                    f"output: the model's output has no {self._output!r}; found {_described(outputs)}"
                ) from None
        elif isinstance(outputs, Mapping) and "logits" in outputs:
            chosen = outputs["logits"]
        elif not isinstance(outputs, torch.Tensor) and isinstance(getattr(outputs, "logits", None), torch.Tensor):
            chosen = outputs.logits
        if not isinstance(chosen, torch.Tensor):
            raise UnsupportedModelError(
                "the model must return one tensor with a row for each sample, or something with `logits`; found "
                f"{_described(outputs)}: name the output that counts (output=...)"
            )
        if chosen.ndim == 0 or len(chosen) != samples:
            raise UnsupportedModelError(
                f"the model must return one tensor with a row for each sample, found {tuple(chosen.shape)} for "
                f"{samples} samples"
            )
        return chosen

    def _block(
        self,
        group: Group,
        uses: Sequence[Use],
        plan: Plan,
        derivatives: Mapping[int, torch.Tensor | None],
        scale: torch.Tensor,
        samples: int,
    ) -> Rows:
        """The rows of a group of parameters: the sum over its uses."""
        parts = []
        for number, roles in group.uses:
            use, derivative = uses[number], derivatives[number]
            if derivative is None:
                continue
            of_input, of_output = plan.layouts[number]
            given = of_input.samples_first(use.input, samples)
            derivative = of_output.samples_first(derivative.reshape(use.shape), samples)
            if isinstance(use.rule, FunctionRule):
                parts.append(use.rule.rows(use.call, roles, given, derivative, scale))
            else:
                gradients = use.rule(use.call, given, derivative)
                flat = [gradients[role].reshape(samples, self.shapes[use.parameters[role]].numel()) for role in roles]
                parts.append(DenseRows(torch.cat(flat, dim=1), scale))
        if parts:
            return shared_rows.added(parts)
        flat = [self._flat(None, name, samples) for name in group.parameters]
        return DenseRows(torch.cat(flat, dim=1), scale)

    def _replayed(
        self,
        layers: Collection[str],
        plan: Plan,
        path: str,
        call: ModuleCall,
        layouts: CallLayouts,
        derivatives: Sequence[torch.Tensor | None],
        samples: int,
    ) -> dict[str, torch.Tensor]:
        """(n, *shape) of the parameters of all layers for which a module is run again."""
        module, gradients = dict(self.model.named_modules())[path], {}
        for loop in (False, True):
            of_it = [layer for layer in layers if plan.replayed.get(layer) == Replay(path, loop)]
            places = {name: self.places[name] for layer in of_it for name in self.parameters[layer]}
            if places:
                gradients |= replay(module, places, call, layouts, derivatives, samples, loop)
        return gradients

    def _flat(self, gradients: torch.Tensor | None, name: str, samples: int) -> torch.Tensor:
        """(n, P) of one parameter; zero where nothing depends on it."""
        if gradients is None:
            return torch.zeros(samples, self.shapes[name].numel(), dtype=self.dtype, device=self.device)
        return gradients.reshape(samples, self.shapes[name].numel())


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Without inference mode, gradients and autocast, whatever is set around the call."""
    with torch.inference_mode(False), torch.no_grad(), devices.without_autocast(device):
        yield


def expanded(parameter: torch.Tensor, axes: int, samples: int) -> torch.Tensor:
    """A leaf (n, ...) that holds the parameter once for each sample, without a copy."""
    tensor = parameter.detach()
    if axes < 0:  # its own first axis, of length 1, becomes that of the samples
        return tensor.expand(samples, *tensor.shape[1:]).requires_grad_()
    between = (1,) * axes
    return tensor.reshape(1, *between, *tensor.shape).expand(samples, *between, *tensor.shape).requires_grad_()


def _layers(
    model: nn.Module, trained: Mapping[str, torch.Tensor], names: Mapping[int, str], wanted: Sequence[str] | None
) -> dict[str, list[str]]:
    """The trained parameters of each layer: of the module that has them first, where several share them."""
    layers: dict[str, list[str]] = {}
    for path, _ in model.named_modules():
        own = [name for name in trained if name.rpartition(".")[0] == path]
        if own:
            layers[path] = own
    if not layers:
        raise UnsupportedModelError("the model has no parameters that require gradients")
    if NETWORK in layers:
        raise UnsupportedModelError(f"a layer is named {NETWORK!r}, which stands for all layers together; rename it")
    for name in wanted or ():
        if name not in layers:
            raise ValueError(_unknown_layer(model, name, layers, names))
    return {layer: own for layer, own in layers.items() if wanted is None or layer in wanted}


def _unknown_layer(model: nn.Module, name: str, layers: Collection[str], names: Mapping[int, str]) -> str:
    modules = dict(model.named_modules(remove_duplicate=False))
    owners = (
        {names[id(p)] for p in modules[name].parameters(recurse=False) if id(p) in names} if name in modules else ()
    )
    if owners:
        return f"layers: the parameters of {name!r} are those of {', '.join(sorted(owners))}; ask for that layer"
    return f"layers: among {', '.join(layers)} expected, found {name!r}"


def _refuse(model: nn.Module) -> None:
    """Raise where a per-sample gradient is not defined, as far as the modules tell."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedModelError(
                f"layer {name!r}: batch normalisation by batch statistics makes the gradient of one sample "
                "meaningless; call model.eval() (with running statistics)"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise UnsupportedModelError(f"layer {name!r}: dropout makes the gradient random; call model.eval()")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq:
            raise UnsupportedModelError(
                f"layer {name!r}: scale_grad_by_freq makes the gradient of a sample depend on the others of its batch"
            )
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UnsupportedModelError(f"parameter {name!r} has no shape yet: call the model once before")
        if parameter.requires_grad and parameter.is_complex():
            raise UnsupportedModelError(f"parameter {name!r}: real numbers expected, found {parameter.dtype}")


def _made_for_inference(model: nn.Module) -> bool:
    return any(parameter.is_inference() for parameter in model.parameters())


def _copied(model: nn.Module, device: torch.device) -> nn.Module:
    try:
        with torch.inference_mode(False):
            return moved(copy.deepcopy(model), device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"the model cannot be copied to another device or precision ({error}); move it there before the call"
        ) from error


def _is_script(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _positional(inputs: Any) -> tuple:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _shaped(derivative: torch.Tensor | None, shape: torch.Size) -> torch.Tensor | None:
    return None if derivative is None else derivative.reshape(shape)


def _described(outputs: Any) -> str:
    kind = type(outputs).__name__
    if isinstance(outputs, torch.Tensor):
        return f"{kind} {tuple(outputs.shape)}"
    if isinstance(outputs, Mapping):
        return f"{kind} with {', '.join(map(str, outputs))}"
    return f"{kind} of {len(outputs)}" if isinstance(outputs, tuple | list) else kind
