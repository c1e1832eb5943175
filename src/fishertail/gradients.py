"""The gradients of all training samples as an implicit matrix G (N x P) that is never stored whole.

`GradientMatrix` runs a network forward and backward over batches of samples and gives the rows of G of each layer
(`fishertail.rows`). The backward pass starts from the derivative of each sample's loss by the network's output, which
`cross_entropy` computes without cancellation, and stops at the layers' outputs, so no weight gradients are computed.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fishertail import cross_entropy
from fishertail.errors import UnsupportedModelError
from fishertail.rows import DenseRows, Rows, has_rule, layer_rows

NETWORK = "network"
_BATCH, _CONVOLUTIONAL_BATCH = 500, 100  # larger ones fall out of cache: 1.8 times the time at 500 for convolutions
_PROBES = 3  # samples on which every layer's rows are compared with autograd, one sample at a time


@dataclass(frozen=True)
class GradientNorms:
    """L2 norms of the per-sample gradients; infinite where a gradient is not finite."""

    layers: tuple[str, ...]  # L names, as `named_modules` has them
    per_layer: np.ndarray  # (N, L) float64
    loss: np.ndarray  # (N,) float64
    correct: np.ndarray | None  # (N,) bool; None where the loss is no classification

    @property
    def network(self) -> np.ndarray:
        """(N,) float64: norms of the gradient of all layers together."""
        return np.hypot.reduce(self.per_layer, axis=1)  # squares of norms below 1e-162 would vanish


@dataclass(frozen=True)
class Batch:
    """Some samples' rows, losses and correctness."""

    index: torch.Tensor  # (n,) which samples
    rows: dict[str, Rows]
    loss: torch.Tensor  # (n,) float64
    correct: torch.Tensor | None  # (n,) bool


def gradient_norms(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    loss: Callable | None = None,
    layers: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
) -> GradientNorms:
    """The L2 norm of every sample's gradient, for each layer and for the network.

    Args:
        model: any network; batch normalisation counts as the function it is in eval mode.
        images: (N, ...) whatever the model takes.
        labels: (N, ...) whatever the loss takes.
        loss: called with outputs and labels of ONE sample as a batch of one; cross entropy by default, which is
            computed exactly for any degree of fit (plain `CrossEntropyLoss()` is recognised).
        layers: names of the layers; all with trained parameters by default.
        device: where to compute; where the model is by default.
        batch_size: samples that are computed together, by default as many as keep the processor's cache in use; the
            result does not depend on it beyond rounding.

    Raises:
        UnsupportedModelError: a per-sample gradient is not defined or would be inexact; names the layer.
        ValueError: images and labels of unequal length, or labels that the loss does not take.
    """
    matrix = GradientMatrix(model, images, labels, loss=loss, layers=layers, device=device, batch_size=batch_size)
    with matrix:
        return matrix.norms()


class GradientMatrix:
    """The gradients of N samples, as rows by batch and layer. Use it as a context: it hooks the model while it is open.

    Args:
        As of `gradient_norms`.

    Attributes:
        layers: names of the layers, in the order of the model's parameters.
        sizes: number of parameters by layer.
    """

    def __init__(self, model, images, labels, *, loss=None, layers=None, device=None, batch_size=None):
        if len(images) != len(labels):
            raise ValueError(f"as many labels as images expected, found {len(images)} images and {len(labels)} labels")
        if len(images) == 0:
            raise ValueError("at least one sample expected, found none")
        self.model, self.images, self.labels = model, images, labels
        own_device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.device = torch.device(device) if device is not None else own_device
        if self.device != own_device:
            self.model = copy.deepcopy(model).to(self.device)
        self._loss = None if _is_plain_cross_entropy(loss) else loss
        self._modules = _trained_layers(self.model, layers)
        self.layers = tuple(self._modules)
        _refuse_batch_statistics(self.model)
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self._parameters = {
            layer: [name for name in trained if name.rpartition(".")[0] == layer] for layer in self.layers
        }
        self.sizes = {layer: sum(trained[n].numel() for n in names) for layer, names in self._parameters.items()}
        self._convolutional = any(isinstance(module, nn.Conv2d) for module in self.model.modules())
        self.batch_size = batch_size or (_CONVOLUTIONAL_BATCH if self._convolutional else _BATCH)
        self._captured: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._calls: dict[str, int] = {}
        self._functional: set[str] = {layer for layer in self.layers if not self._rule_applies(layer)}

    def __len__(self) -> int:
        return len(self.images)

    def __enter__(self):
        self._functional |= self._layers_whose_rule_is_wrong()
        self._open()
        return self

    def _open(self) -> None:
        self._hooks = [
            self._modules[layer].register_forward_hook(self._capture(layer), with_kwargs=True) for layer in self.layers
        ]
        self._in_place = [m for m in self.model.modules() if getattr(m, "inplace", False) is True]
        for module in self._in_place:  # would overwrite the captured outputs
            module.inplace = False

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()
        for module in self._in_place:
            module.inplace = True
        self._captured.clear()

    def batches(self, index: torch.Tensor | None = None, layers: Collection[str] | None = None) -> Iterator[Batch]:
        """Rows of some layers (all by default), batch by batch, computed anew at each call.

        Args:
            index: the samples, ascending; all by default.
        """
        index = torch.arange(len(self)) if index is None else index
        wanted = tuple(layer for layer in self.layers if layers is None or layer in layers)
        for part in index.split(self.batch_size) if len(index) else ():
            yield self._batch(part, wanted)

    def norms(
        self, layers: Collection[str] | None = None, keep: Callable[[Batch], None] | None = None
    ) -> GradientNorms:
        """Norms of all samples in some layers (all by default), in one pass.

        Args:
            keep: is called with each batch, for who wants to hold on to its rows.
        """
        wanted = tuple(layer for layer in self.layers if layers is None or layer in layers)
        norms, losses, correct = [], [], []
        for batch in self.batches(layers=wanted):
            norms.append(torch.stack([batch.rows[layer].norms() for layer in wanted], dim=1))
            losses.append(batch.loss)
            correct.append(batch.correct)
            if keep is not None:
                keep(batch)
        return GradientNorms(
            layers=wanted,
            per_layer=torch.nan_to_num(torch.cat(norms), nan=torch.inf).cpu().numpy(),
            loss=torch.cat(losses).cpu().numpy(),
            correct=torch.cat(correct).cpu().numpy() if correct[0] is not None else None,
        )

    def _batch(self, index: torch.Tensor, layers: tuple[str, ...]) -> Batch:
        contiguous = len(index) == int(index[-1]) - int(index[0]) + 1
        part = slice(int(index[0]), int(index[-1]) + 1) if contiguous else index
        x, y = self.images[part].to(self.device), self.labels[part].to(self.device)
        outputs = self._forward(x)
        loss, correct, residuals = self._output_derivatives(outputs.detach(), y)
        residuals, scale = _normalised(residuals, outputs.dtype)
        return Batch(index, self._rows(layers, x, outputs, residuals, scale), loss, correct)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        self._captured.clear()
        self._calls = dict.fromkeys(self.layers, 0)
        if self._convolutional and x.ndim == 4:  # the memory format in which convolutions are fastest
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.enable_grad():
            outputs = self.model(x)
        if not isinstance(outputs, torch.Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
            kind = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise UnsupportedModelError(f"the model must return one tensor with a row a sample, found {kind}")
        return outputs

    def _rows(self, layers, x, outputs, residuals, scale) -> dict[str, Rows]:
        """Rows of `layers`, from one backward pass of `residuals` (n, ...) through `outputs`."""
        hooked = [layer for layer in layers if layer not in self._functional]
        derivatives = (
            torch.autograd.grad(outputs, [self._captured[layer][1] for layer in hooked], residuals, allow_unused=True)
            if hooked
            else ()
        )
        rows: dict[str, Rows] = {}
        for layer, derivative in zip(hooked, derivatives, strict=True):
            inputs, output = self._captured[layer]
            derivative = torch.zeros_like(output) if derivative is None else derivative
            with torch.no_grad():
                rows[layer] = layer_rows(self._modules[layer], inputs, derivative.detach(), scale)
        if not self._functional.isdisjoint(layers):
            rows |= self._functional_rows(x, residuals, scale)
        self._captured.clear()
        return {layer: rows[layer] for layer in layers}

    def _output_derivatives(self, outputs: torch.Tensor, y: torch.Tensor):
        """Loss (n,), correctness (n,) and derivative of each sample's loss by its own outputs, in float64 if exact."""
        classifies = outputs.ndim == 2 and y.ndim == 1 and not y.is_floating_point()
        correct = outputs.argmax(1) == y if classifies else None
        if self._loss is None:
            if outputs.ndim != 2:
                raise ValueError(f"cross entropy: outputs (N, classes) expected, found {tuple(outputs.shape)}")
            cross_entropy.check_labels(y, outputs.shape[1])
            losses, residuals = cross_entropy.losses_and_residuals(outputs, y)
            return losses, correct, residuals

        def loss_of_one(output, target):
            value = self._loss(output[None], target[None])
            if value.numel() != 1:
                raise ValueError(f"the loss of one sample must be one number, found shape {tuple(value.shape)}")
            return value.reshape(())

        try:
            residuals, losses = torch.func.vmap(torch.func.grad_and_value(loss_of_one))(outputs, y)
        except RuntimeError as error:
            raise UnsupportedModelError(f"the loss cannot be differentiated sample by sample: {error}") from error
        return losses.double(), correct, residuals

    def _functional_rows(self, x, residuals, scale) -> dict[str, Rows]:
        """Rows of the layers without a rule, by torch.func over the whole network."""
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        names = [name for layer in self.layers if layer in self._functional for name in self._parameters[layer]]
        own = {name: state.pop(name).detach() for name in names}
        state = {name: tensor.detach() for name, tensor in state.items()}

        def product_of_one(own, sample, residual):
            return (torch.func.functional_call(self.model, {**state, **own}, (sample[None],))[0] * residual).sum()

        try:
            # a randomness of "error" would name vmap, not the layer: `_check_against_autograd` finds random layers
            per_sample = torch.func.vmap(torch.func.grad(product_of_one), in_dims=(None, 0, 0), randomness="different")
            gradients = per_sample(own, x, residuals)
        except RuntimeError as error:
            layers = ", ".join(sorted(self._functional))
            raise UnsupportedModelError(
                f"layers {layers}: no rule, and torch.func cannot treat the network: {error}"
            ) from error
        rows = {}
        for layer in self._functional:
            flat = [gradients[name].flatten(1) for name in self._parameters[layer]]
            rows[layer] = DenseRows(torch.cat(flat, dim=1), scale)
        return rows

    def _rule_applies(self, layer: str) -> bool:
        module = self._modules[layer]
        parameters = list(module.parameters(recurse=False))
        shared = any(
            parameter is other
            for name, other_module in self.model.named_modules(remove_duplicate=False)
            if other_module is not module
            for other in other_module.parameters(recurse=False)
            for parameter in parameters
        )
        return has_rule(module) and all(parameter.requires_grad for parameter in parameters) and not shared

    def _capture(self, layer: str):
        def hook(module, args, kwargs, output):
            self._calls[layer] += 1
            if layer in self._functional or torch._C._functorch.peek_interpreter_stack() is not None:
                return None
            if not output.requires_grad:  # all parameters before it are frozen
                output.requires_grad_()
            inputs = args[0] if args else next(iter(kwargs.values()))
            self._captured[layer] = (inputs.detach(), output)
            return None

        return hook

    def _layers_whose_rule_is_wrong(self) -> set[str]:
        """Compare every layer's rows with autograd on single samples, and refuse what torch.func does not mend.

        This finds what no list of layer types can: modules called twice or bypassed, weights used outside their module,
        samples of a batch that influence one another, randomness. It is done in float64, where no ReLU is so near its
        kink that rounding decides its derivative; a network that cannot be run in float64 is compared more leniently.
        """
        index = torch.linspace(0, len(self) - 1, min(_PROBES, len(self))).long().unique()
        x, y = self.images[index].to(self.device), self.labels[index].to(self.device)
        try:
            model = copy.deepcopy(self.model).double()
            x, tolerance = (x.double() if x.is_floating_point() else x), 1e-6
            with torch.no_grad():
                model(x)
        except (RuntimeError, TypeError):
            model, x, tolerance = self.model, self.images[index].to(self.device), 3e-2
        probe = GradientMatrix(model, x, y, loss=self._loss, layers=self.layers, device=self.device)
        probe._open()
        try:
            return probe._compare_with_autograd(x, tolerance)
        finally:
            probe.__exit__()

    def _compare_with_autograd(self, x: torch.Tensor, tolerance: float) -> set[str]:
        outputs = self._forward(x)
        self._functional |= {layer for layer in self.layers if self._calls[layer] != 1}
        generator = torch.Generator().manual_seed(0)
        residuals = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
        scale = torch.ones(len(x), dtype=torch.float64, device=self.device)
        alone = torch.cat([self._forward(x[i : i + 1]) for i in range(len(x))]).detach()
        if not torch.allclose(outputs, alone, rtol=tolerance, atol=tolerance * float(alone.abs().max())):
            raise UnsupportedModelError(
                "the output of a sample in a batch differs from its output alone: samples of a batch influence one "
                "another, or the network is random; per-sample gradients are not defined"
            )
        truth = [self._autograd_of_one(x[i : i + 1], residuals[i : i + 1]) for i in range(len(x))]
        while True:
            rows = self._rows(self.layers, x, self._forward(x), residuals, scale)
            wrong = {layer for layer in self.layers if not _agree(rows[layer], [t[layer] for t in truth], tolerance)}
            if not wrong:
                return self._functional
            if wrong & self._functional:
                raise UnsupportedModelError(
                    f"layer {sorted(wrong)[0]!r}: the gradient of a sample in a batch differs from its gradient alone"
                )
            self._functional |= wrong

    def _autograd_of_one(self, x: torch.Tensor, residual: torch.Tensor) -> dict[str, torch.Tensor]:
        parameters = dict(self.model.named_parameters())
        names = [name for layer in self.layers for name in self._parameters[layer]]
        product = (self._forward(x) * residual).sum()
        gradients = dict(
            zip(names, torch.autograd.grad(product, [parameters[n] for n in names], allow_unused=True), strict=True)
        )
        flat = {n: torch.zeros_like(parameters[n]) if g is None else g for n, g in gradients.items()}
        return {layer: torch.cat([flat[n].flatten() for n in self._parameters[layer]]) for layer in self.layers}


def _is_plain_cross_entropy(loss) -> bool:
    if loss is None or loss is nn.functional.cross_entropy:
        return True
    return type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.label_smoothing == 0


def _trained_layers(model: nn.Module, wanted: Sequence[str] | None) -> dict[str, nn.Module]:
    """The modules that own trained parameters themselves, by name; all or the `wanted` ones."""
    owners = {
        name: module
        for name, module in model.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    }
    if not owners:
        raise UnsupportedModelError("the model has no parameters that require gradients")
    if NETWORK in owners:
        raise UnsupportedModelError(f"a layer is named {NETWORK!r}, which stands for all layers together; rename it")
    unknown = [name for name in wanted or () if name not in owners]
    if unknown:
        raise ValueError(f"layers: among {', '.join(owners)} expected, found {', '.join(map(repr, unknown))}")
    return {name: module for name, module in owners.items() if wanted is None or name in wanted}


def _refuse_batch_statistics(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedModelError(
                f"layer {name!r}: batch normalisation by batch statistics makes the gradient of one sample "
                "meaningless; call model.eval() (with running statistics)"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise UnsupportedModelError(f"layer {name!r}: dropout makes the gradient random; call model.eval()")


def _normalised(residuals: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale each sample's residual to a largest entry in [1, 2), by a power of two.

    float32 then carries derivatives of 1e-40 through the network as exactly as those of 1.
    """
    largest = residuals.flatten(1).abs().amax(1).double()
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.where(usable, torch.frexp(torch.where(usable, largest, 1.0))[1] - 1, 0)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    shape = (-1,) + (1,) * (residuals.ndim - 1)
    return (residuals.double() / scale.view(shape)).to(dtype), scale


def _agree(rows: Rows, truth: list[torch.Tensor], tolerance: float) -> bool:
    """Whether the rows are the gradients in `truth`: by their norms and by inner products with all of these."""
    truth = torch.stack(truth)
    norms = torch.linalg.vector_norm(truth, dim=1, dtype=torch.float64)
    directions = truth / norms.clamp_min(1e-300).to(truth)[:, None]
    expected = truth.double() @ directions.double().T
    allowed = tolerance * max(float(norms.max()), 1e-300)
    differences = [rows.project(directions) - expected, rows.norms() - norms]
    return all(bool((difference.abs() <= allowed).all()) for difference in differences)
