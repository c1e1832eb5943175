"""`GradientMatrix`: the rows of G by batch and layer, each batch from one forward and one backward pass."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.gradient_plan import ALONE, GradientPlan
from fishertail.gradients.inputs import moved, samples_of
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.losses import Derivatives, Loss, loss_of
from fishertail.gradients.memory_budget import batch_size_for
from fishertail.gradients.network import Network, full_precision
from fishertail.gradients.plan_check import PlanMismatchError
from fishertail.gradients.probe import Probe
from fishertail.gradients.probe_samples import probe_inputs

_SUMMED = 16  # batches that are summed in float32: more cost no less, and lose digits


@dataclass(frozen=True, repr=False)
class GradientNorms:
    """L2 norms of the per-sample gradients; infinite where a gradient is not finite."""

    layers: tuple[str, ...]  # L names, as `named_modules` has them
    per_layer: NDArray[np.float64]  # (N, L)
    loss: NDArray[np.float64]  # (N,)
    correct: NDArray[np.bool_] | None  # (N,); None where the samples do not have one label each

    @property
    def network(self) -> NDArray[np.float64]:
        """(N,) norms of the gradient of `layers` together: of the whole network, unless some were chosen."""
        norms: NDArray[np.float64] = np.hypot.reduce(self.per_layer, axis=1)  # squares below 1e-324 would underflow
        return norms

    def __repr__(self) -> str:
        return f"GradientNorms({len(self.loss)} samples, {len(self.layers)} layers: {', '.join(self.layers)})"


@dataclass(frozen=True)
class Batch:
    """Targets, rows, losses and correctness of some samples."""

    index: torch.Tensor  # (n,) which samples
    targets: Any  # (n, ...) tensors, or mappings or tuples of them
    rows: dict[str, Rows]
    loss: torch.Tensor  # (n,) float64
    correct: torch.Tensor | None  # (n,) bool


def gradient_norms(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    loss: Callable[..., torch.Tensor] | None = None,
    layers: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    memory_budget: float | None = None,
    output: str | int | None = None,
) -> GradientNorms:
    """The L2 norm of every sample's gradient, for each layer and for the network.

    Args:
        model: any network, in eval mode as far as batch normalisation and dropout are concerned. It is left as it is.
        images: (N, ...) tensors or arrays as the model takes them, in a tuple if it takes several, in a mapping if it
            takes them by name; or a Dataset or DataLoader, which has the labels, too.
        labels: (N, ...) whatever the loss takes.
        loss: called with outputs and labels of ONE sample as a batch of one. The default is the cross entropy, averaged
            over the positions of a sample if it has several. Cross entropy (plain `CrossEntropyLoss()` is recognised)
            is computed without cancellation, and so exactly for samples that are fitted to any degree. Class weights
            need reduction="sum": the mean divides by the weight of the one sample.
        layers: names of the layers; by default, or with "network" among them, all with trained parameters. A layer is
            a module that owns parameters itself; a parameter that several modules share belongs to the first.
        device: where to compute: a device that torch knows, or `auto` for an accelerator with float64 if there is one;
            by default where the model is.
        batch_size: number of samples that are computed together; by default chosen by the memory that they take. The
            result depends on it by rounding only.
        memory_budget: bytes beyond model and data; by default half of the free memory.
        output: which output the loss is of, if the model has several: a key, an attribute or a place in a tuple; by
            default `logits`, if there is one.

    Returns:
        the norms |g_x| (N, L), with losses and correctness of the samples.

    Raises:
        UnsupportedModelError: a per-sample gradient is not defined or would be inexact; names the layer.
        DeviceError: torch does not know the device, or it has no float64.
        NodeError: this machine does not have the device.
        ValueError, TypeError: images and labels do not fit one another, the model or the loss.
    """
    with GradientMatrix(
        model,
        images,
        labels,
        loss=loss,
        layers=layers,
        device=device,
        batch_size=batch_size,
        memory_budget=memory_budget,
        output=output,
    ) as matrix:
        return matrix.norms()


def _shapes(inputs: Any) -> tuple[torch.Size, ...]:
    """Of a sample."""
    return tuple(leaf.shape[1:] for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor))


class GradientMatrix:
    """The gradients of N samples, as rows by batch and layer.

    Use it as a context: on entry, the rows of a few samples are compared with autograd's gradients.

    Args:
        See `gradient_norms`.

    Attributes:
        layers: names of the layers, in the order of the model's parameters.
        sizes: number of parameters of each layer.
        parameters: names of the parameters of each layer, in the order in which vectors have them.
        device, dtype: where and in what gradients are computed.
        memory_budget: bytes; None for half of the free memory.
        batch_size: number of samples in a batch, once the matrix is open.
        sample_bytes: approximate bytes that a sample of a batch takes, once it is open.
        row_bytes: bytes that a row of each layer takes, once it is open.
        output_shape: of the output for one sample, once it is open.
        rows_per_sample: 1, but of a `RepeatedMatrix`.
    """

    rows_per_sample = 1

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        labels: Any = None,
        *,
        loss: Callable[..., torch.Tensor] | None = None,
        layers: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        memory_budget: float | None = None,
        output: str | int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: at least 1 expected, found {batch_size}")
        self._samples = samples_of(images, labels)
        self._network = Network(model, layers, device, output)
        self._loss: Loss = loss_of(loss)
        self._wanted_batch_size, self.memory_budget = batch_size, memory_budget
        self.layers, self.sizes = self._network.layers, self._network.sizes
        self.parameters = self._network.parameters
        self.device, self.dtype = self._network.device, self._network.dtype

    def __len__(self) -> int:
        return len(self._samples)

    def __enter__(self) -> "GradientMatrix":
        with ExitStack() as stack:
            stack.enter_context(full_precision(self.device))
            inputs = moved(probe_inputs(self._samples), self.device)
            probe = Probe(self._network, inputs)
            self._plan, footprint = probe.run()
            self._plans = {_shapes(inputs): self._plan}
            targets = getattr(self._samples, "targets", None)
            if isinstance(targets, np.ndarray) and not isinstance(targets, np.memmap):
                targets = torch.from_numpy(np.array(targets))
            if isinstance(targets, torch.Tensor):  # before hours are spent
                self._loss.check(probe.outputs, targets)
            self.batch_size = self._wanted_batch_size or batch_size_for(footprint, self.device, self.memory_budget)
            self._footprint, self.sample_bytes = footprint, footprint.batch
            self.row_bytes = footprint.rows
            self.output_shape = tuple(probe.outputs.shape[1:])
            self._contexts = stack.pop_all()  # for all that is computed while it is open
        return self

    def __exit__(self, *_: object) -> None:
        self._contexts.close()

    @property
    def batch_bytes(self) -> int:
        """Approximate bytes that a batch takes."""
        return min(self.batch_size, len(self)) * self.sample_bytes

    def fit_batches(self, memory: float) -> None:
        """Take smaller batches if they need more than `memory` bytes, unless their size was given."""
        if self._wanted_batch_size is None and self.batch_bytes > memory:
            self.batch_size = max(1, int(memory // self.sample_bytes))

    @property
    def model(self) -> nn.Module:
        """The copy of the model that is computed with; it shares the user's parameters, if their precision will do."""
        return self._network.model

    @property
    def plan(self) -> GradientPlan:
        """How the rows of each layer are computed, once the matrix is open."""
        return self._plan

    @property
    def output(self) -> str | int | None:
        """Which output the loss is of, as given."""
        return self._network.output

    def read(self, index: torch.Tensor) -> tuple[Any, Any]:
        """Inputs and targets (n, ...) of the samples at `index` (ascending), on the device and as the model takes them.

        They are tensors, or mappings or tuples of them.
        """
        inputs, targets = moved(self._samples.read(index), self.device)
        return self._network.cast(inputs), targets

    def outputs(self, index: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Outputs (n, ...) and targets of the samples at `index`, by a forward pass, while the matrix is open."""
        inputs, targets = self.read(index)
        return self._network.outputs(inputs, len(index)), targets

    def of_whole_samples(self, index: torch.Tensor) -> torch.Tensor:
        """Ascending row numbers: those at `index`, and what else had better be computed with them."""
        return index

    def batches(self, index: torch.Tensor | None = None, layers: Collection[str] | None = None) -> Iterator[Batch]:
        """Rows of some layers (by default all), batch by batch, computed again at each call.

        Args:
            index: positions of the samples, ascending; by default all.
        """
        index = torch.arange(len(self)) if index is None else index
        wanted = self._ordered(layers)
        for part in index.split(self.batch_size) if len(index) else ():
            yield self._batch(part, wanted)

    def norms(
        self, layers: Collection[str] | None = None, keep: Callable[[Batch], None] | None = None
    ) -> GradientNorms:
        """Norms of all samples in some layers (by default all), in one pass.

        Args:
            keep: called with each batch, to keep its rows.
        """
        wanted = self._ordered(layers)
        norms, losses, correct = [], [], []
        for batch in self.batches(layers=wanted):
            norms.append(torch.stack([batch.rows[layer].norms() for layer in wanted], dim=1))
            losses.append(batch.loss)
            if batch.correct is not None:
                correct.append(batch.correct)
            if keep is not None:
                keep(batch)
        return GradientNorms(
            layers=wanted,
            per_layer=torch.nan_to_num(torch.cat(norms), nan=torch.inf).cpu().numpy(),
            loss=torch.cat(losses).cpu().numpy(),
            correct=torch.cat(correct).cpu().numpy() if correct else None,
        )

    def mean(self) -> dict[str, torch.Tensor]:
        """G^T 1 / N (P,) float64 of each layer, in one ordinary pass that starts from the exact residuals.

        A few batches at a time are summed in the precision of the network, and these sums in float64.
        """
        sums: dict[str, torch.Tensor] = {}
        batches = torch.arange(len(self)).split(self.batch_size)
        for first in range(0, len(batches), _SUMMED):
            of_some, unit = self._summed(batches[first : first + _SUMMED])
            sums = {name: part.double() * unit + sums.get(name, 0.0) for name, part in of_some.items()}
        return {
            layer: torch.cat([sums[name].flatten() for name in own]) / len(self)
            for layer, own in self._network.parameters.items()
        }

    def _summed(self, batches: Sequence[torch.Tensor]) -> tuple[dict[str, torch.Tensor], float]:
        """The sum of the gradients of some batches by parameter, and the unit that it is in.

        That is the largest scale of a sample: float32 would not hold the gradients of fitted ones, say of 1e-50.
        """
        total: dict[str, torch.Tensor] = {}
        unit = 0.0
        for index in batches:
            inputs, targets = self.read(index)
            units: list[float] = []
            derivatives_of = partial(self._in_units, targets, units)
            parts = self._network.summed_gradients(inputs, len(index), derivatives_of)
            if units[0] > unit:
                total = {name: part.mul_(unit / units[0]) for name, part in total.items()}
                unit = units[0]
            share = units[0] / unit if unit else 1.0
            for name, part in parts.items():  # of which two may be one tensor
                total[name] = total[name].add_(part, alpha=share) if name in total else part * share
        return total, unit

    def _in_units(self, targets: Any, units: list[float], outputs: torch.Tensor) -> torch.Tensor:
        """The derivatives of some samples' losses by their outputs, in a unit that is appended to `units`."""
        found = self._loss(outputs, targets)
        nonzero = found.residuals.reshape(len(found.scale), -1).any(1)  # others have a scale of 1
        units.append(float(torch.where(nonzero, found.scale, 0.0).max()))
        shares = torch.where(nonzero, found.scale / (units[0] or 1.0), 0.0).to(found.residuals.dtype)
        return found.residuals * shares.reshape(-1, *[1] * (found.residuals.ndim - 1))

    def _ordered(self, layers: Collection[str] | None) -> tuple[str, ...]:
        return tuple(layer for layer in self.layers if layers is None or layer in layers)

    def _batch(self, index: torch.Tensor, layers: tuple[str, ...]) -> Batch:
        inputs, targets = self.read(index)
        derivatives_of = partial(self._derivatives, targets)
        plan = self._plan_for(inputs)
        try:
            rows, found = self._network.rows(layers, inputs, len(index), plan, derivatives_of)
        except PlanMismatchError:  # the network takes another path for these samples
            rows, found = self._one_by_one(layers, inputs, len(index), plan, derivatives_of)
        return Batch(index, targets, rows, found.loss, found.correct)

    def _derivatives(self, targets: Any, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Derivatives]:
        found = self._loss(outputs, targets)
        return found.residuals, found.scale, found

    def _plan_for(self, inputs: Any) -> GradientPlan:
        """The plan for samples of the shape that these have."""
        if not self._plan.folded:
            return self._plan
        shapes = _shapes(inputs)
        if shapes not in self._plans:
            sample = tree_map_only(torch.Tensor, lambda tensor: tensor[:1], inputs)
            self._plans[shapes] = self._network.plan_for_shape(self._plan, sample)
        return self._plans[shapes]

    def _one_by_one(
        self,
        layers: Collection[str],
        inputs: Any,
        samples: int,
        plan: GradientPlan,
        derivatives_of: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, Derivatives]],
    ) -> tuple[dict[str, Rows], Derivatives]:
        """The rows from one backward pass for each sample."""
        alone = GradientPlan(replayed=dict.fromkeys(layers, ALONE), call_axes=plan.call_axes)
        try:
            return self._network.rows(layers, inputs, samples, alone, derivatives_of)
        except PlanMismatchError as error:
            raise UnsupportedModelError(
                "the network takes another path for some samples than for others, and then every tensor that it takes "
                "or returns must have an axis of the samples; found one that has not"
            ) from error
