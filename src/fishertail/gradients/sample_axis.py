"""`SampleAxis`: where a tensor has the samples of its batch."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class SampleAxis:
    """The axis of a tensor along which the samples lie, by themselves or folded with positions (tokens, windows)."""

    axis: int | None  # None: the tensor is the same for all samples
    axes: int  # of the tensor
    size: int = 1  # entries of each sample along the axis: several where it is folded; 0: the tensor has none at all
    samples_outside: bool = True  # of a folded axis: (samples, positions) flattened, not (positions, samples)

    @property
    def folded(self) -> bool:
        """Whether samples share the axis with positions."""
        return self.size > 1

    def fits(self, shape: torch.Size, samples: int) -> bool:
        """Whether a tensor of a batch has its samples there, and all of them."""
        if len(shape) != self.axes:
            return False
        if self.axis is None:
            return self.size > 0 or shape.numel() == 0
        return shape[self.axis] == samples * self.size

    def resized(self, of_one: torch.Size) -> "SampleAxis":
        """The same axis where a batch of one sample has another shape."""
        known = self.folded and self.axis is not None and len(of_one) == self.axes
        return replace(self, size=of_one[self.axis]) if known else self  # type: ignore[index]

    def first(self, tensor: torch.Tensor, samples: int) -> torch.Tensor:
        """The tensor with the samples as its first axis (n, ...)."""
        if self.axis is None:
            return tensor.expand(samples, *tensor.shape)
        if not self.folded:
            return tensor.movedim(self.axis, 0)
        tensor, axis = self.separate(tensor, samples)
        assert axis is not None
        return tensor.movedim(axis, 0)

    def separate(self, tensor: torch.Tensor, samples: int) -> tuple[torch.Tensor, int | None]:
        """The tensor with an axis for the samples, along which each has what a batch of it alone would have.

        Returns:
            the tensor, and the axis; None where the tensor is the same for all samples.
        """
        if self.axis is None:
            return tensor, None
        if not self.folded:
            return tensor.unsqueeze(self.axis + 1), self.axis
        if self.samples_outside:
            return tensor.unflatten(self.axis, (samples, -1)), self.axis
        return tensor.unflatten(self.axis, (-1, samples)), self.axis + 1


def sample_axis(of_batch: torch.Size, of_one: torch.Size, samples: int) -> SampleAxis | None:
    """The axis, by the shapes of a tensor for a batch of `samples` and for one; None if these do not determine it."""
    if len(of_batch) != len(of_one):
        return None
    differing = [axis for axis, pair in enumerate(zip(of_batch, of_one, strict=True)) if pair[0] != pair[1]]
    if not differing:
        return SampleAxis(None, len(of_batch), size=min(1, of_batch.numel()))
    axis = differing[0]
    if len(differing) > 1 or of_batch[axis] != samples * of_one[axis]:
        return None
    return SampleAxis(axis, len(of_batch), size=of_one[axis])
