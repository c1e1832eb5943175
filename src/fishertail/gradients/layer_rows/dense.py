"""Rows stored as the gradients themselves, and what all stored rows have in common."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch

from fishertail.gradients.accurate_sums import lengths, long_product


class Stored:
    """Selecting, allocating and filling rows, for dataclasses of tensors whose first axis is the samples."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def take(self, positions: torch.Tensor | slice) -> Self:
        return self._with(lambda tensor: tensor[positions])

    def empty(self, samples: int) -> Self:
        return self._with(lambda tensor: tensor.new_empty(samples, *tensor.shape[1:]))

    def holds(self, rows: Any) -> bool:
        return bool(_form(self) == _form(rows))

    def fill(self, positions: torch.Tensor | slice, rows: Self) -> None:
        if not self.holds(rows):
            raise ValueError(f"rows: {_form(self)} expected, found {_form(rows)}")
        for own, others in zip(self.tensors(), rows.tensors(), strict=True):
            own[positions] = others

    def alone(self) -> Self:
        return self

    def interleaved(self, others: Sequence[Self]) -> Self:
        changed: dict[str, Any] = {
            f.name: in_turn([getattr(rows, f.name) for rows in (self, *others)])
            for f in fields(self)  # type: ignore[arg-type]
        }
        return replace(self, **changed)  # type: ignore[type-var]

    def tensors(self) -> Iterator[torch.Tensor]:
        found: list[torch.Tensor] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        self._with(note)
        return iter(found)

    def _with(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """The same rows with `function` applied to each tensor."""
        changed: dict[str, Any] = {f.name: applied(function, getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **changed)  # type: ignore[type-var]


def applied(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """A field of rows with a function applied to each tensor in it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Stored):
        return value._with(function)
    if isinstance(value, tuple):
        return tuple(applied(function, item) for item in value)
    return value


def in_turn(values: Sequence[Any]) -> Any:
    """One field of several rows, with the first of each, then the second of each, and so on."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(list(values), dim=1).flatten(0, 1)
    return tuple(map(in_turn, zip(*values, strict=True))) if type(first) is tuple else first


def _form(value: Any) -> Any:
    """What rows have in common that can lie in one block of memory: everything but the samples."""
    if isinstance(value, torch.Tensor):
        return value.shape[1:], value.dtype
    if isinstance(value, Stored):
        return type(value), *(_form(getattr(value, f.name)) for f in fields(value))  # type: ignore[arg-type]
    return tuple(map(_form, value)) if type(value) is tuple else value


@dataclass(frozen=True)
class DenseRows(Stored):
    """The gradients themselves: for any layer, and for layers whose gradient is smaller than its factors."""

    gradients: torch.Tensor  # (n, P)
    scale: torch.Tensor  # (n,) float64

    def norms(self) -> torch.Tensor:
        return lengths(self.gradients) * self.scale

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        return long_product(self.gradients, vectors) * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        sums.addmm_((coefficients * self.scale[:, None]).to(self.gradients.dtype).T, self.gradients)

    def gram(self) -> torch.Tensor:
        return long_product(self.gradients, self.gradients) * torch.outer(self.scale, self.scale)

    def dense(self) -> "DenseRows":
        return self

    @property
    def pair_cost(self) -> int:
        return self.gradients.shape[1]

    vector_cost = pair_cost
