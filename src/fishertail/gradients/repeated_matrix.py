"""`RepeatedMatrix`: several rows for each sample, which share its forward pass and the inputs of the layers."""

from collections.abc import Collection, Iterator
from functools import partial

import torch

from fishertail.gradients.inputs import RepeatedSamples, moved
from fishertail.gradients.losses import Loss
from fishertail.gradients.matrix import Batch, GradientMatrix
from fishertail.gradients.memory_budget import Footprint, batch_size_for
from fishertail.gradients.plan_check import PlanMismatchError

_COMPLETED = 3  # rows for one that is wanted, up to which all rows of a sample are computed


class RepeatedMatrix(GradientMatrix):
    """A matrix with each sample several times, and another loss; it is open as long as the first one is.

    Row `times * x + c` is the gradient of the loss of sample x for the target c. All rows of some samples come from one
    forward pass, and a backward pass for each target.

    Args:
        matrix: an open one.
        times: how many targets each sample has, 0 to times - 1.
        loss: of outputs and the number of a target.

    Raises:
        ValueError: not even one row fits in the memory budget.
    """

    def __init__(self, matrix: GradientMatrix, times: int, loss: Loss) -> None:
        vars(self).update(vars(matrix))
        self._once, self._samples = matrix._samples, RepeatedSamples(matrix._samples, times)
        self._loss, self.rows_per_sample = loss, times
        twice = {layer: 2 * size for layer, size in matrix.row_bytes.items()}  # while those of a sample are put in turn
        footprint = Footprint(self._footprint.graph // times, twice)
        self.sample_bytes = footprint.batch
        if self._wanted_batch_size is None:
            self.batch_size = batch_size_for(footprint, self.device, self.memory_budget, times)
        self._round_batch_size()

    def fit_batches(self, memory: float) -> None:
        super().fit_batches(memory)
        self._round_batch_size()

    def of_whole_samples(self, index: torch.Tensor) -> torch.Tensor:
        """Ascending row numbers: those at `index`, and the other rows of their samples unless these are far more."""
        samples: torch.Tensor = torch.unique(index // self.rows_per_sample)
        if self.rows_per_sample * len(samples) > _COMPLETED * len(index):
            return index
        return (samples[:, None] * self.rows_per_sample + torch.arange(self.rows_per_sample)).flatten()

    def batches(self, index: torch.Tensor | None = None, layers: Collection[str] | None = None) -> Iterator[Batch]:
        index = torch.arange(len(self)) if index is None else index
        wanted = self._ordered(layers)
        apart = max(1, self.batch_size * self.sample_bytes // self._footprint.batch)  # each with a forward pass
        for part in index.split(self.batch_size) if len(index) else ():
            if (together := self._together(part, wanted)) is not None:
                yield together
            else:
                yield from (self._batch(some, wanted) for some in part.split(apart))

    def _together(self, index: torch.Tensor, layers: tuple[str, ...]) -> Batch | None:
        """All rows of some samples; None where `index` is not that, or where the network takes another path."""
        samples = torch.unique(index // self.rows_per_sample)
        if len(index) != self.rows_per_sample * len(samples):
            return None
        inputs = self._network.cast(moved(self._once.read(samples)[0], self.device))
        targets = (index % self.rows_per_sample).to(self.device)
        losses = [partial(self._derivatives, of_samples) for of_samples in targets.view(len(samples), -1).T]
        try:
            found = list(self._network.rows_of_losses(layers, inputs, len(samples), self._plan_for(inputs), losses))
        except PlanMismatchError:
            return None
        first, *others = [rows for rows, _ in found]
        correct = [each.correct for _, each in found if each.correct is not None]
        return Batch(
            index,
            targets,
            {layer: rows.interleaved([other[layer] for other in others]) for layer, rows in first.items()},
            torch.stack([each.loss for _, each in found], dim=1).flatten(),
            torch.stack(correct, dim=1).flatten() if correct else None,
        )

    def _round_batch_size(self) -> None:
        """To all rows of some samples, where it is not less than those of one."""
        self.batch_size -= self.batch_size % self.rows_per_sample if self.batch_size > self.rows_per_sample else 0
