"""`KrylovSpace`: the leading eigenpairs of F by Rayleigh-Ritz, one product with a few vectors at a time."""

import torch

from fishertail.fisher.scout import NOISE, ZERO, Scout
from fishertail.fisher.space import eigenvalue_errors, padded
from fishertail.gradients.accurate_sums import lengths, sum_of

MAX_PRODUCTS = 60  # with a block of vectors, after which a pair is returned as not converged
RESTART = 12  # blocks of vectors that are kept before a restart


class KrylovSpace:
    """Rayleigh-Ritz for F = sum_x w_x^2 g_x g_x^T on a basis Q, with A = G Q and W = F Q at hand.

    The trace of F is 1, or close to it. New directions are the residuals of the wanted pairs, which span the Krylov
    space of the start; a restart keeps the Ritz vectors with their A and W. Vectors are rows. Attributes: see `Space`.
    """

    def __init__(
        self,
        start: torch.Tensor,
        weights: torch.Tensor,
        *,
        k: int,
        extra: int,
        rtol: float,
        following: float | None = None,
        outside: float = 0.0,
        blocks: int = RESTART,
        scouted: bool = False,
        room: int = 0,
    ) -> None:
        """
        Args:
            start: (b, P) vectors to start from, of any length, and not necessarily independent.
            weights: (n,) float64: w_x.
            k: how many eigenpairs are wanted.
            extra: how many more are followed, to know the gap.
            rtol: relative error of an eigenvalue at which it has converged.
            following: an estimate of the eigenvalue after the wanted ones, if there is one.
            outside: what gradients that are not among the n may add to a residual.
            blocks: number of blocks of vectors that are kept before a restart.
            scouted: whether to look for a larger eigenvalue that the start has nothing of.
            room: number of vectors that may be kept besides, for this.
        """
        self._weights, self._k, self._extra, self._rtol = weights, k, extra, rtol
        self._following_estimate, self._outside = following, outside
        self._capacity = blocks * (k + extra) + room  # of the basis
        start = orthonormalised_beside(start, start[:0])
        self._scout = Scout(start.shape[1], start) if scouted else None
        self._next = start if self._scout is None else torch.cat([start, self._scout.beside(start)])
        self._basis = start.new_empty(0, start.shape[1])  # Q
        self._products = start.new_empty(0, start.shape[1])  # W
        self._projections = weights.new_empty(len(weights), 0)  # A
        self._exhausted = False  # no direction is left that is not in the basis
        self._blocks = 0
        self.product_count = 0
        self.values = torch.zeros(k, dtype=torch.float64)
        self.residuals = torch.full((k,), torch.inf, dtype=torch.float64)
        self.following: float | None = None  # a bound or an estimate of the eigenvalue after the wanted ones
        self.next_value: float | None = None

    def directions(self) -> torch.Tensor:
        """(b, P) orthonormal vectors to multiply F with."""
        return self._next

    def expand(self, directions: torch.Tensor, projections: torch.Tensor, products: torch.Tensor) -> None:
        """Take in A = G Q (n, b) and W = F Q (b, P) of new directions Q, and solve the projected problem."""
        if len(self._basis) + len(directions) > self._capacity:
            self._restart(self._capacity - len(directions))
        self._basis = torch.cat([self._basis, directions])
        self._products = torch.cat([self._products, products])
        self._projections = torch.cat([self._projections, projections], dim=1)
        self.product_count += len(directions)
        self._blocks += 1
        self._rayleigh_ritz()

    def finished(self) -> bool:
        """Whether all pairs have converged, or more products would not improve them."""
        if self._exhausted or self._blocks >= MAX_PRODUCTS:
            return True
        return self._blocks > 0 and self._settled and self._found()

    def converged(self, residuals: torch.Tensor) -> torch.Tensor:
        """(k,) bool: whether eigenvalues with these residuals are within the tolerance, and the largest."""
        return self._accurate(residuals) & (self._settled | self._exhausted)

    def _found(self) -> bool:
        """Whether all wanted pairs have converged, or only other samples add to their residuals."""
        enough = self._accurate(self.residuals + self._outside)
        in_vain = (self.residuals < 0.1 * self._outside) & self._accurate(self.residuals)
        return bool((enough | in_vain).all())

    @property
    def _settled(self) -> bool:
        return self._scout is None or self._scout.settled

    def _accurate(self, residuals: torch.Tensor) -> torch.Tensor:
        accurate = eigenvalue_errors(self.values, residuals, self.following) <= self._rtol * self.values
        none = (self.values <= ZERO * self.values[0]) & (residuals <= NOISE * self.values[0])
        return accurate | none | (self._exhausted & (residuals < 1e-5))

    def vectors(self) -> torch.Tensor:
        """(k, P) unit Ritz vectors V; 0 where F has a lower rank."""
        return padded(self.ritz_vectors[: self._k], self._k)

    def projections(self) -> torch.Tensor:
        """(n, k) float64: G V."""
        wanted = self._rotation[:, : self._k] / self._lengths[: self._k]
        return padded((self._projections @ wanted.to(self._projections)).T, self._k).T

    def _rayleigh_ritz(self) -> None:
        weighted = self._projections * self._weights[:, None]
        values, rotation = torch.linalg.eigh((weighted.T @ weighted).cpu())
        values, self._rotation = values.flip(0).clamp_min(0), rotation.flip(1)
        wanted = self._rotation[:, : self._k + self._extra].T.to(self._basis)
        vectors = wanted @ self._basis
        self._lengths = lengths_of_rows(vectors)  # 1 up to rounding
        lengths = self._lengths.to(vectors)[:, None]
        self.ritz_vectors = vectors / lengths
        residuals = wanted @ self._products / lengths - self.ritz_vectors * values[: len(wanted)].to(vectors)[:, None]
        sizes = lengths_of_rows(residuals)
        count = min(self._k, len(values))
        self.values = padded(values[:count], self._k)
        self.residuals = padded(sizes[:count], self._k)
        self.next_value = float(values[self._k]) if len(values) > self._k else None
        self.following = self._following(sizes)
        unfinished = ~self._accurate(self.residuals + self._outside)[:count]
        if len(values) > count and unfinished.any():
            # the next pair is also iterated on as long as it may be as large as a wanted one
            close = (values[:count] - self.residuals[:count] <= self.following)[unfinished].any().view(1)
            unfinished = torch.cat([unfinished, close])
        candidates = residuals[: len(unfinished)][unfinished.to(residuals.device)]
        if self._scout is not None:
            along = self._scout.follow(
                self._basis, self._products, self._rotation, values, self._k, found=self._found()
            )
            candidates = torch.cat([candidates, along])
        self._propose(candidates)

    def _following(self, residuals: torch.Tensor) -> float | None:
        if self._following_estimate is not None:
            return max(self._following_estimate, self.next_value or 0.0)
        return None if self.next_value is None else self.next_value + float(residuals[self._k])

    def _propose(self, candidates: torch.Tensor) -> None:
        """Take as new directions what the candidates add to the basis."""
        self._next = orthonormalised_beside(candidates, self._basis)
        self._exhausted = len(self._next) == 0

    def _restart(self, room: int) -> None:
        count = self._k + self._extra
        kept = self._rotation[:, : 2 * count]
        if self._scout is not None and not self._scout.settled:
            kept = self._scout.kept(kept, count, room)
        self._basis, self._products = kept.T.to(self._basis) @ self._basis, kept.T.to(self._products) @ self._products
        self._projections = self._projections @ kept.to(self._projections)


def orthonormalised_beside(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis (b', P) of what vectors (b, P) add to an orthonormal one (m, P); noise is dropped.

    Residuals of one Krylov space are parallel up to rounding, so that the difference of two of them may be noise,
    and its component along the basis grows when it is scaled to unit length. Therefore everything is done twice. What
    loses much of its length the second time was mostly rounding along the basis, and is dropped.
    """
    for least in (1e-4, 0.7):
        sizes = lengths_of_rows(vectors)
        vectors = vectors / torch.where(sizes > 0, sizes, 1.0).to(vectors)[:, None]
        vectors = vectors - (vectors @ basis.T) @ basis
        vectors = vectors[(lengths_of_rows(vectors) > least).to(vectors.device)]
        vectors = _orthonormalised(vectors) if len(vectors) else vectors
    return vectors


def _orthonormalised(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis (b', P) of the rows (b, P); dependent rows are dropped."""
    scale = lengths_of_rows(vectors)
    scale = torch.where(scale > 0, scale, 1.0)
    values, rotation = torch.linalg.eigh(_gram(vectors / scale.to(vectors)[:, None]))
    usable = values > 1e-8
    transform = (rotation / values.clamp_min(1e-300).sqrt())[:, usable].T / scale
    basis: torch.Tensor = transform.to(vectors) @ vectors
    return basis


def _gram(vectors: torch.Tensor) -> torch.Tensor:
    """X X^T with float64 sums, in chunks: a float32 dot product over millions of entries is wrong by 3e-5."""
    return sum_of([chunk.double() @ chunk.double().T for chunk in vectors.split(1 << 16, dim=1)]).cpu()


def lengths_of_rows(vectors: torch.Tensor) -> torch.Tensor:
    """(b,) float64, on the CPU: the norms of vectors (b, P)."""
    return lengths(vectors).cpu()
