"""Rows stored as two factors, of which the layer's input may be that of several rows in turn.

These are the rows of a sample by several losses, one for each class, say. Its input is stored once for all of them, and
products with vectors take it once.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Self

import torch

from fishertail.gradients.layer_rows.dense import Stored, applied, in_turn


class SharedInputs(Stored):
    """Selecting, allocating and filling such rows.

    Attributes:
        scale: (n,) float64.
        shared: how many rows in turn have one input.
        INPUTS: the field with an entry for each input; the others have one for each row.
    """

    scale: torch.Tensor
    shared: int
    INPUTS: ClassVar[str]

    def take(self, positions: torch.Tensor | slice) -> Self:
        if self.shared == 1:
            return super().take(positions)
        rows = torch.arange(len(self.scale), device=self.scale.device)[positions]
        samples = rows // self.shared
        if not self._whole(rows):
            return self._each(lambda tensor: tensor[positions], lambda tensor: tensor[samples], 1)
        places: torch.Tensor | slice = samples[:: self.shared]
        if isinstance(positions, slice) and len(rows):  # without a copy
            places = slice(int(samples[0]), int(samples[-1]) + 1)
        return self._each(lambda tensor: tensor[positions], lambda tensor: tensor[places], self.shared)

    def alone(self) -> Self:
        """The same rows, each with its own input."""
        if self.shared == 1:
            return self
        return self._each(lambda tensor: tensor, lambda tensor: tensor.repeat_interleave(self.shared, 0), 1)

    def interleaved(self, others: Sequence[Self]) -> Self:
        """See `Rows`; rows that share inputs already get their own first."""
        parts = [part.alone() for part in (self, *others)]
        changed: dict[str, Any] = {
            f.name: in_turn([getattr(part, f.name) for part in parts])
            for f in fields(self)  # type: ignore[arg-type]
            if f.name != self.INPUTS
        }
        return replace(parts[0], **(changed | {"shared": len(parts)}))  # type: ignore[type-var]

    def empty(self, samples: int) -> Self:
        if samples % self.shared:
            raise ValueError(f"rows: a multiple of {self.shared} expected, found {samples}")
        return self._each(
            lambda tensor: tensor.new_empty(samples, *tensor.shape[1:]),
            lambda tensor: tensor.new_empty(samples // self.shared, *tensor.shape[1:]),
            self.shared,
        )

    def fill(self, positions: torch.Tensor | slice, rows: Self) -> None:
        if self.shared == 1 or not self.holds(rows):
            return super().fill(positions, rows)
        room = self.take(positions)
        if not isinstance(positions, slice) or room.shared != self.shared:
            raise ValueError(f"rows: a slice expected, of whole samples with {self.shared} rows each")
        for own, others in zip(room.tensors(), rows.tensors(), strict=True):
            own.copy_(others)

    def _each(
        self,
        of_rows: Callable[[torch.Tensor], torch.Tensor],
        of_inputs: Callable[[torch.Tensor], torch.Tensor],
        shared: int,
    ) -> Self:
        """The same rows with a function applied to each tensor, one for those by row and one for the inputs."""
        changed: dict[str, Any] = {
            f.name: applied(of_inputs if f.name == self.INPUTS else of_rows, getattr(self, f.name))
            for f in fields(self)  # type: ignore[arg-type]
        }
        return replace(self, **(changed | {"shared": shared}))  # type: ignore[type-var]

    def _whole(self, rows: torch.Tensor) -> bool:
        """Whether these are all rows of some samples, in turn."""
        first = rows[:: self.shared]
        whole = (first[:, None] + torch.arange(self.shared, device=rows.device)).flatten()
        return torch.equal(whole, rows) and not bool((first % self.shared).any())
