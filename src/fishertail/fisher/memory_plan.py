"""`MemoryPlan`: what of a budget goes to rows, vectors and Gram matrices, and which scopes are solved together."""

from collections.abc import Mapping
from dataclasses import dataclass

from fishertail.fisher.krylov import RESTART
from fishertail.fisher.scout import STEPS
from fishertail.fisher.start import START_EXTRA, gram_has_all, gram_size
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.memory_budget import readable

_LEAST_BLOCKS = 3  # of vectors that a Krylov space needs to go on after a restart


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is spent."""

    rows: float  # bytes for rows that are kept
    gathered: float  # bytes for rows that are gathered for a Gram matrix
    vectors: float  # bytes for vectors and Gram matrices
    groups: list[list[str]]  # names of the scopes that are solved together
    blocks: int  # number of blocks of vectors that a Krylov space keeps
    room: int  # number of vectors that it may keep besides for a scout; 0 where there is none


def memory_plan(matrix: GradientMatrix, sizes: Mapping[str, int], k: int, budget: float) -> MemoryPlan:
    """How to spend a budget. Batches of the matrix become smaller where that makes room for the largest scope.

    Args:
        matrix: an open one.
        sizes: number of parameters of each scope.
        k: how many eigenpairs are wanted.
        budget: bytes; what is returned to the user does not count.

    Raises:
        ValueError: the largest scope does not fit; names the least budget that would do.
    """
    of_gram = gram_size(len(matrix))
    largest_rows = of_gram * max(matrix.row_bytes.values())
    costs = _costs(matrix, sizes, k, _LEAST_BLOCKS, 0)
    largest = max(costs, key=costs.__getitem__)
    matrix.fit_batches(budget - largest_rows - costs[largest])
    available = budget - matrix.batch_bytes - largest_rows
    if costs[largest] > available:
        least = costs[largest] + matrix.batch_bytes + largest_rows
        raise ValueError(
            f"memory_budget: at least {readable(least)} expected, which {largest!r} takes "
            f"({sizes[largest]} parameters, k = {k}, a batch of {matrix.batch_size}); found {readable(budget)}"
        )
    blocks, room = _LEAST_BLOCKS, 0
    for more, of_scout in ((_LEAST_BLOCKS, STEPS // 2), (RESTART // 2, STEPS), (RESTART, STEPS)):
        of_it = _costs(matrix, sizes, k, more, of_scout)
        if sum(of_it.values()) <= available / 2 or (more == _LEAST_BLOCKS and max(of_it.values()) <= available):
            blocks, room, costs = more, of_scout, of_it
    limit = max(available / 2, costs[largest])
    groups: list[list[str]] = [[]]
    for name, cost in costs.items():
        if groups[-1] and sum(costs[other] for other in groups[-1]) + cost > limit:
            groups.append([])
        groups[-1].append(name)
    used = max(sum(costs[name] for name in group) for group in groups)
    gathered = min(of_gram * sum(matrix.row_bytes.values()), largest_rows + (available - used) / 2)
    return MemoryPlan(
        available + largest_rows - used - gathered, gathered, max(used, available / 2), groups, blocks, room
    )


def _costs(matrix: GradientMatrix, sizes: Mapping[str, int], k: int, blocks: int, room: int) -> dict[str, float]:
    return {name: _cost(len(matrix), size, k, blocks, room, matrix.dtype.itemsize) for name, size in sizes.items()}


def _cost(samples: int, size: int, k: int, blocks: int, room: int, itemsize: int) -> float:
    """Bytes that one scope takes beside its rows."""
    if gram_has_all(samples):  # no Krylov space is needed
        return 3 * 8 * samples**2 + 2 * itemsize * size * min(k, size)
    # basis and products, those of the start, and three copies of the directions in a sweep; for a scout besides, its
    # random vector, three copies of a direction and its image
    vectors = (min(k, size) + START_EXTRA) * (2 * blocks + 5) + (2 * room + 5 if room else 0)
    return 3 * 8 * gram_size(samples) ** 2 + itemsize * size * vectors
