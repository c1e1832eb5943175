"""Random vectors of a parameter space, too long to be held at full length."""

import torch

VECTORS = 2
_TILE = 1 << 12  # entries of the right factor


class RandomVectors:
    """VECTORS random vectors (P,), each the outer product of two normal ones, held as these factors.

    Args:
        size: P.
        generator: on the CPU; draws the factors.
        dtype, device: of the vectors.
    """

    def __init__(self, size: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> None:
        self._size, self._width = size, min(_TILE, max(size, 1))
        tiles = -(-size // self._width)
        self._left = torch.randn(VECTORS, tiles, generator=generator).to(dtype=dtype, device=device)
        self._right = torch.randn(VECTORS, self._width, generator=generator).to(dtype=dtype, device=device)

    def vector(self, number: int) -> torch.Tensor:
        """(P,): one of them at full length."""
        return torch.outer(self._left[number], self._right[number]).flatten()[: self._size]

    def products(self, gradient: torch.Tensor) -> torch.Tensor:
        """(VECTORS,) float64: the products of all of them with a gradient (P,)."""
        whole = self._size // self._width * self._width
        by_tile = gradient[:whole].view(-1, self._width) @ self._right.T  # (tiles, VECTORS)
        found = (by_tile.double() * self._left[:, : len(by_tile)].T).sum(0)
        if whole < self._size:
            rest = self._right[:, : self._size - whole] * self._left[:, -1:]
            found += (rest @ gradient[whole:]).double()
        return found.cpu()
