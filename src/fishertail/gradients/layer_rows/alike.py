"""Rows of one layer that are stored in different ways, brought into one."""

from dataclasses import replace

from fishertail.gradients.layer_rows.blocks import BlockRows
from fishertail.gradients.layer_rows.outer_products import OuterProductRows
from fishertail.gradients.layer_rows.protocol import Rows


def alike(rows: Rows, others: Rows) -> tuple[Rows, Rows]:
    """Rows of some samples and of others, which may have more positions, so that a block of memory can hold both.

    Factors get the larger number of positions; rows of two types become gradients.
    """
    if not rows.holds(others):
        rows, others = rows.alone(), others.alone()
    if rows.holds(others):
        return rows, others
    if isinstance(rows, BlockRows) and isinstance(others, BlockRows) and rows.sizes == others.sizes:
        pairs = [alike(*pair) for pair in zip(rows.blocks, others.blocks, strict=True)]
        return replace(rows, blocks=tuple(a for a, _ in pairs)), replace(others, blocks=tuple(b for _, b in pairs))
    if isinstance(rows, OuterProductRows) and isinstance(others, OuterProductRows) and _same_uses(rows, others):
        positions = [max(a.shape[1], b.shape[1]) for a, b in zip(rows.rights, others.rights, strict=True)]
        return rows.padded(positions), others.padded(positions)
    return rows.dense(), others.dense()


def _same_uses(rows: OuterProductRows, others: OuterProductRows) -> bool:
    return [left.dtype for left in rows.lefts] == [left.dtype for left in others.lefts]
