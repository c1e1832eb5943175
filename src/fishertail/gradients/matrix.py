"""`GradientMatrix`: the rows of G by batch and layer, from one forward and one backward pass each."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fishertail.gradients.inputs import moved, samples_of
from fishertail.gradients.losses import loss_of
from fishertail.gradients.memory import batch_size_for
from fishertail.gradients.network import Network, PlanMismatchError, full_precision
from fishertail.gradients.plan import Plan, Replay
from fishertail.gradients.probe import Probe, probe_index
from fishertail.gradients.rows import Rows


@dataclass(frozen=True)
class GradientNorms:
    """L2 norms of the per-sample gradients; infinite where a gradient is not finite."""

    layers: tuple[str, ...]  # L names, as `named_modules` has them
    per_layer: np.ndarray  # (N, L) float64
    loss: np.ndarray  # (N,) float64
    correct: np.ndarray | None  # (N,) bool; None where there is not one label for each sample

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
    images: Any,
    labels: Any = None,
    *,
    loss: Callable | None = None,
    layers: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    memory_budget: float | None = None,
    output: str | int | None = None,
) -> GradientNorms:
    """The L2 norm of every sample's gradient, for each layer and for the network.

    Args:
        model: any network; batch normalisation counts as the function it is in eval mode. It is left as it is.
        images: (N, ...) tensors or arrays as the model takes them, in a tuple where it takes several, in a mapping
            where it takes them by name; or a Dataset or DataLoader, which has the labels, too.
        labels: (N, ...) whatever the loss takes.
        loss: called with outputs and labels of ONE sample as a batch of one; cross entropy by default, over the
            positions of a sample where it has several. Cross entropy (plain `CrossEntropyLoss()` is recognised) is
            computed exactly for any degree of fit.
        layers: names of the layers; all with trained parameters by default. A layer is a module that owns parameters
            itself; where several share one, it belongs to the first.
        device: where to compute: a device that torch knows, or `auto` for an accelerator with float64 if there is one;
            where the model is by default.
        batch_size: samples that are computed together; by default chosen by the memory that they take. The result
            depends on it by rounding only.
        memory_budget: bytes beyond model and data; half of the free memory by default.
        output: which output the loss is of, where the model has several: a key, an attribute or a place. `logits` by
            default, where there is such.

    Raises:
        UnsupportedModelError: a per-sample gradient is not defined or would be inexact; names the layer.
        DeviceError: torch does not know the device, or it has no float64.
        NodeError: this machine does not have the device.
        ValueError, TypeError: images and labels that do not fit one another, the model or the loss.
    """
    options = {"loss": loss, "layers": layers, "device": device, "batch_size": batch_size, "output": output}
    with GradientMatrix(model, images, labels, memory_budget=memory_budget, **options) as matrix:
        return matrix.norms()


class GradientMatrix:
    """The gradients of N samples, as rows by batch and layer. Use it as a context, which proves them right on entry.

    Args:
        As of `gradient_norms`.

    Attributes:
        layers: names of the layers, in the order of the model's parameters.
        sizes: number of parameters by layer.
        batch_size: of the batches, once it is open.
        sample_bytes: that a sample of a batch takes, about.
        row_bytes: that a row of each layer takes.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        labels: Any = None,
        *,
        loss: Callable | None = None,
        layers: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        memory_budget: float | None = None,
        output: str | int | None = None,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: at least 1 expected, found {batch_size}")
        self._samples = samples_of(images, labels)
        self._network = Network(model, layers, device, output)
        self._loss = loss_of(loss)
        self._wanted_batch_size, self._budget = batch_size, memory_budget
        self.layers, self.sizes = self._network.layers, self._network.sizes
        self.device, self.dtype = self._network.device, self._network.dtype

    def __len__(self) -> int:
        return len(self._samples)

    def __enter__(self) -> "GradientMatrix":
        with ExitStack() as stack:
            stack.enter_context(full_precision(self.device))
            inputs, _ = self._read(probe_index(len(self)))
            probe = Probe(self._network, inputs)
            self._plan, footprint = probe.run()
            if isinstance(targets := getattr(self._samples, "targets", None), torch.Tensor):  # before hours are spent
                self._loss.check(probe.outputs, targets)
            self.batch_size = self._wanted_batch_size or batch_size_for(footprint, self.device, self._budget)
            self.sample_bytes = footprint.batch
            self.row_bytes = footprint.rows
            self._contexts = stack.pop_all()  # for all that is computed while it is open
        return self

    def __exit__(self, *_: object) -> None:
        self._contexts.close()

    @property
    def batch_bytes(self) -> int:
        """That a batch takes, about."""
        return min(self.batch_size, len(self)) * self.sample_bytes

    def fit_batches(self, memory: float) -> None:
        """Take smaller batches where those take more than so many bytes; not where their size was given."""
        if self._wanted_batch_size is None and self.batch_bytes > memory:
            self.batch_size = max(1, int(memory // self.sample_bytes))

    @property
    def plan(self) -> Plan:
        """How the rows of each layer are made."""
        return self._plan

    def batches(self, index: torch.Tensor | None = None, layers: Collection[str] | None = None) -> Iterator[Batch]:
        """Rows of some layers (all by default), batch by batch, computed again at each call.

        Args:
            index: the samples, ascending; all by default.
        """
        index = torch.arange(len(self)) if index is None else index
        wanted = self._ordered(layers)
        for part in index.split(self.batch_size) if len(index) else ():
            yield self._batch(part, wanted)

    def norms(
        self, layers: Collection[str] | None = None, keep: Callable[[Batch], None] | None = None
    ) -> GradientNorms:
        """Norms of all samples in some layers (all by default), in one pass.

        Args:
            keep: is called with each batch, for who wants to hold on to its rows.
        """
        wanted = self._ordered(layers)
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

    def _ordered(self, layers: Collection[str] | None) -> tuple[str, ...]:
        return tuple(layer for layer in self.layers if layers is None or layer in layers)

    def _read(self, index: torch.Tensor) -> tuple[Any, Any]:
        inputs, targets = moved(self._samples.read(index), self.device)
        return self._network.cast(inputs), targets

    def _batch(self, index: torch.Tensor, layers: tuple[str, ...]) -> Batch:
        inputs, targets = self._read(index)

        def derivatives_of(outputs: torch.Tensor) -> tuple:
            found = self._loss(outputs, targets)
            return found.residuals, found.scale, found

        try:
            rows, found = self._network.rows(layers, inputs, len(index), self._plan, derivatives_of)
        except PlanMismatchError:  # the network takes another path for these samples
            whole = dict.fromkeys(layers, Replay("", loop=True))
            alone = Plan(replayed=whole, call_layouts=self._plan.call_layouts)
            rows, found = self._network.rows(layers, inputs, len(index), alone, derivatives_of)
        return Batch(index, rows, found.loss, found.correct)
