"""Rows of a weight that several positions share (tokens, pixels): g_x = sum_t left_t right_t^T, stored as factors.

The cheapest way is chosen by counting multiplications. With T positions, O x I entries and b vectors:

- the *ghost norm* |g|^2 = sum_{s,t} (left_s . left_t) (right_s . right_t) takes T^2 (O + I), the gradient T O I;
- a product with b vectors takes b T O I as the layer's own forward pass, and (T + b) O I by way of the gradient, which
  is formed for a few samples at a time and not kept. Each access to an entry of a gradient that does not fit in the
  cache counts as `_SLOW_ENTRY` multiplications.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from fishertail.gradients.accurate_sums import inner_products, lengths, long_product, sum_of, sums_in_turn
from fishertail.gradients.layer_rows.dense import DenseRows, Stored
from fishertail.gradients.layer_rows.linear import LinearRows
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.layer_rows.shared_inputs import SharedInputs

WORKSPACE = 16 << 20  # bytes of gradients formed at a time
_IN_CACHE = 1 << 20  # bytes
_SLOW_ENTRY, _FAST_ENTRY = 12, 2  # multiplications that take as long as one access to an entry of a gradient
_CANCELLED = 1e-2  # share of the positions' own squares below which the ghost norm loses digits
_ROWS_TOGETHER = 64  # rows of an embedding in one matrix product, over the samples that use any of them


def formed_is_cheaper(positions: int, entries: int, vectors: int, shared: int) -> bool:
    """Whether forming the gradient makes a product with so many vectors cheaper.

    Args:
        shared: how many rows in turn have one right factor, whose products with the vectors are then taken once.
    """
    touch = _SLOW_ENTRY if 4 * entries > _IN_CACHE else _FAST_ENTRY
    return positions + vectors + touch * (2 + vectors) < vectors * positions / shared


@dataclass(frozen=True)
class OuterProductRows(SharedInputs):
    """Rows of a weight (O, I) and perhaps a bias (O,), summed over one or several uses of them.

    A left factor is a vector, or the number of a row of the weight (an embedding), which stands for a unit vector.
    """

    lefts: tuple[torch.Tensor, ...]  # of each use: (n, T, O), or (n, T) int64
    rights: tuple[torch.Tensor, ...]  # of each use: (n / shared, T, I)
    scale: torch.Tensor  # (n,) float64
    weight_rows: int
    bias: bool
    shared: int = 1

    INPUTS = "rights"

    def norms(self) -> torch.Tensor:
        """Ghost norms; where positions cancel and these would lose digits, the norms of the gradients."""
        squares = diagonal = torch.zeros_like(self.scale)
        for i, (left, right) in enumerate(self.uses()):
            for j, (other_left, other_right) in enumerate(self.uses()):
                if j < i:
                    continue
                products = right @ other_right.mT
                if self.bias:
                    products += 1
                products *= _left_products(left, other_left)
                if i == j:
                    diagonal = diagonal + products.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.float64)
                squares = squares + (1 if i == j else 2) * products.sum(2).sum(1, dtype=torch.float64)
        norms = squares.clamp_min(0).sqrt()
        cancelled = (squares < _CANCELLED * diagonal).nonzero().flatten()
        if len(cancelled):
            norms[cancelled] = self.take(cancelled)._norms_by_gradients()
        return norms * self.scale

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        weights, biases = self._split(vectors)
        result = self.scale.new_zeros(len(self.scale), len(vectors))
        for left, right in zip(self.lefts, self.rights, strict=True):
            if not left.is_floating_point():
                result = result + torch.stack([inner_products(weight[left], right) for weight in weights], dim=1)
            elif formed_is_cheaper(left.shape[1], weights[0].numel(), len(vectors), self.shared):
                formed = [long_product(part, weights.flatten(1)) for _, part in _formed(left, self._of_rows(right))]
                result = result + torch.cat(formed)
            else:
                outputs = torch.cat([right @ weight.T for weight in weights], dim=2).unflatten(2, (len(vectors), -1))
                columns = [inner_products(outputs[:, :, i], left, self.shared) for i in range(len(vectors))]
                result = result + torch.stack(columns, dim=1)
            if self.bias:
                result = result + (left.sum(1) @ biases.T).double()
        return result * self.scale[:, None]

    def combine(self, coefficients: torch.Tensor, sums: torch.Tensor) -> None:
        scaled = (coefficients * self.scale[:, None]).to(sums.dtype)
        weights, biases = self._split(sums)
        for left, right in zip(self.lefts, self.rights, strict=True):
            if not left.is_floating_point():
                for column, weight in zip(scaled.T, weights, strict=True):
                    weight.index_add_(0, left.flatten(), (right * column[:, None, None]).flatten(0, 1))
            elif formed_is_cheaper(left.shape[1], weights[0].numel(), len(sums), self.shared):
                for samples, part in _formed(left, self._of_rows(right)):
                    sums[:, : part.shape[1]].addmm_(scaled[samples].T, part)
            else:
                for column, weight in zip(scaled.T, weights, strict=True):
                    weighted = sums_in_turn(left * column[:, None, None], self.shared)
                    weight.addmm_(weighted.flatten(0, 1).T, right.flatten(0, 1))
            if self.bias:
                biases += scaled.T @ left.sum(1)

    def gram(self) -> torch.Tensor:
        n, positions = len(self.scale), sum(right.shape[1] for right in self.rights)
        inputs = self.rights[0].shape[2]
        if all(not left.is_floating_point() for left in self.lefts):
            gram = self._gram_by_embedding_rows()
        elif positions**2 * (self.weight_rows + inputs) < self.weight_rows * inputs:
            gram = self._gram_by_pairs_of_positions()
        else:
            gram = self.scale.new_zeros(n, n)
            step = max(1, WORKSPACE // (n * inputs * self.rights[0].element_size()))
            for start in range(0, self.weight_rows, step):
                block = self._block(start, min(start + step, self.weight_rows))
                gram += long_product(block, block)
        if self.bias:
            sums = self._bias_gradients()
            gram += long_product(sums, sums)
        return gram * torch.outer(self.scale, self.scale)

    def dense(self) -> DenseRows:
        parts = [self._block(0, self.weight_rows)]
        if self.bias:
            parts.append(self._bias_gradients())
        return DenseRows(torch.cat(parts, dim=1), self.scale)

    def interleaved(self, others: Sequence["OuterProductRows"]) -> "OuterProductRows":
        if all(left.is_floating_point() for left in self.lefts):
            return super().interleaved(others)
        return Stored.interleaved(self, others)  # the right factor of an embedding is the derivative

    def padded(self, positions: Sequence[int]) -> "OuterProductRows":
        """The same rows with more positions in each use, at which the factors are 0."""
        missing = [count - right.shape[1] for count, right in zip(positions, self.rights, strict=True)]
        lefts = [
            F.pad(left, (0, 0, 0, more) if left.is_floating_point() else (0, more))
            for left, more in zip(self.lefts, missing, strict=True)
        ]
        rights = [F.pad(right, (0, 0, 0, more)) for right, more in zip(self.rights, missing, strict=True)]
        return replace(self, lefts=tuple(lefts), rights=tuple(rights))

    @property
    def pair_cost(self) -> int:
        return self.weight_rows * self.rights[0].shape[2]

    @property
    def vector_cost(self) -> int:
        return self.pair_cost * sum(right.shape[1] for right in self.rights) // self.shared

    def uses(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The factors (left, right) of each use, by row."""
        return zip(self.lefts, map(self._of_rows, self.rights), strict=True)

    def _of_rows(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if self.shared == 1 else inputs.repeat_interleave(self.shared, 0)

    def _split(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights (k, O, I) and the biases (k, O or 0) in flat vectors (k, P), as views."""
        entries = self.weight_rows * self.rights[0].shape[2]
        return vectors[:, :entries].unflatten(1, (self.weight_rows, -1)), vectors[:, entries:]

    def _norms_by_gradients(self) -> torch.Tensor:
        parts = [lengths(self.take(slice(i, i + 1)).dense().gradients) for i in range(len(self.scale))]
        return torch.cat(parts)

    def _bias_gradients(self) -> torch.Tensor:
        """(n, O), without the scale."""
        return sum_of([left.sum(1) for left in self.lefts])

    def _block(self, start: int, stop: int) -> torch.Tensor:
        """(n, (stop - start) I): the gradients of some rows of the weight, without the scale."""
        parts = []
        for left, right in self.uses():
            if left.is_floating_point():
                parts.append(left[:, :, start:stop].mT @ right)
            else:
                block = right.new_zeros(len(right) * (stop - start), right.shape[2])
                sample, position = ((left >= start) & (left < stop)).nonzero(as_tuple=True)
                places = sample * (stop - start) + left[sample, position] - start
                parts.append(block.index_add_(0, places, right[sample, position]).unflatten(0, (len(right), -1)))
        return sum_of(parts).flatten(1)

    def _gram_by_pairs_of_positions(self) -> torch.Tensor:
        """From the products of every position of every sample with every other."""
        n = len(self.scale)
        gram = self.scale.new_zeros(n, n)
        for left, right in self.uses():
            for other_left, other_right in self.uses():
                step = max(1, WORKSPACE // (4 * left.shape[1] * n * other_left.shape[1]))
                for samples in torch.arange(n, device=left.device).split(step):
                    products = right[samples].flatten(0, 1) @ other_right.flatten(0, 1).T
                    products *= _left_products(left[samples].flatten(0, 1), other_left.flatten(0, 1))
                    by_sample = products.unflatten(1, (n, -1)).sum(2).unflatten(0, (len(samples), -1))
                    gram[samples] += by_sample.sum(1, dtype=torch.float64)
        return gram

    def _gram_by_embedding_rows(self) -> torch.Tensor:
        """Some rows of an embedding at a time, the most frequent first, over the samples that use any of them."""
        n = len(self.scale)
        gram = self.scale.new_zeros(n, n)
        rows = torch.cat([left.flatten() for left in self.lefts])
        rights = torch.cat([right.flatten(0, 1) for right in self.rights])
        samples = torch.cat(
            [torch.arange(n, device=left.device).repeat_interleave(left.shape[1]) for left in self.lefts]
        )
        _, number, counts = rows.unique(return_inverse=True, return_counts=True)
        rank = counts.argsort(descending=True).argsort()[number]
        step = max(1, min(_ROWS_TOGETHER, WORKSPACE // (n * rights.shape[1] * rights.element_size())))
        order = rank.argsort()
        for places in order.split(torch.bincount(rank[order] // step).tolist()):
            present, slot = samples[places].unique(return_inverse=True)
            block = rights.new_zeros(len(present) * step, rights.shape[1])
            block.index_add_(0, slot * step + rank[places] % step, rights[places])
            block = block.view(len(present), -1)
            gram[present[:, None], present] += long_product(block, block)
        return gram


def outer_product_rows(
    left: torch.Tensor, right: torch.Tensor, scale: torch.Tensor, weight_rows: int, bias: bool
) -> OuterProductRows | DenseRows:
    """Rows of a weight with `weight_rows` rows, stored as factors, or as gradients where these are smaller."""
    return _smaller(OuterProductRows((left,), (right,), scale, weight_rows, bias))


def added(parts: list[Rows]) -> Rows:
    """The rows of parameters that are used several times: sums over their uses, as factors where these are smaller."""
    if len(parts) == 1:
        return parts[0]
    factored = [factors for part in parts if (factors := _factors(part)) is not None]
    if len(factored) == len(parts):
        uses = [use for factors in factored for use in factors.uses()]
        kinds = ([use for use in uses if use[0].is_floating_point() == floating] for floating in (True, False))
        joined = [[torch.cat(factors, dim=1) for factors in zip(*kind, strict=True)] for kind in kinds if kind]
        return _smaller(replace(factored[0], lefts=tuple(j[0] for j in joined), rights=tuple(j[1] for j in joined)))
    total = parts[0].dense()
    for part in parts[1:]:
        total = replace(total, gradients=total.gradients + part.dense().gradients)
    return total


def _factors(rows: Rows) -> OuterProductRows | None:
    if isinstance(rows, LinearRows):
        left, right = rows.derivatives[:, None], rows.inputs[:, None]
        return OuterProductRows((left,), (right,), rows.scale, left.shape[2], rows.bias)
    return rows if isinstance(rows, OuterProductRows) else None


def _smaller(rows: OuterProductRows) -> OuterProductRows | DenseRows:
    """The rows as they are, or as gradients where these take less memory."""
    entries = rows.weight_rows * (rows.rights[0].shape[2] + rows.bias)
    factors = sum(tensor[0].nbytes for tensor in (*rows.lefts, *rows.rights)) // rows.rights[0].element_size()
    return rows if factors < entries else rows.dense()


def _formed(left: torch.Tensor, right: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """The gradients (m, O I) of as many samples at a time as fit in the cache."""
    step = max(1, _IN_CACHE // (left.shape[2] * right.shape[2] * right.element_size()))
    for start in range(0, len(left), step):
        samples = slice(start, start + step)
        yield samples, (left[samples].mT @ right[samples]).flatten(1)


def _left_products(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """left_s . other_t (..., S, T), where either may be numbers that stand for unit vectors."""
    if left.is_floating_point() and other.is_floating_point():
        return left @ other.mT
    if left.is_floating_point():
        return left.gather(-1, other.unsqueeze(-2).expand(*left.shape[:-1], other.shape[-1]))
    if other.is_floating_point():
        return _left_products(other, left).mT
    return left.unsqueeze(-1) == other.unsqueeze(-2)
