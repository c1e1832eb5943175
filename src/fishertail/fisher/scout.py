"""`Scout`: a random vector that is iterated along, so that no eigenvalue is missed that the start has nothing of.

Where F is made of blocks, as that of an embedding is, with a block for each token, an eigenvector of one block is one
of F: its residual is zero, and no Krylov space leads from it to a block with a larger eigenvalue. A random vector has
something of every block. Of an eigenvalue that is there several times, it shows one direction alone; therefore another
one follows where a wanted pair was found with the first.
"""

import math

import torch

from fishertail.fisher.space import padded
from fishertail.gradients.accurate_sums import lengths

CHANCE = 0.01  # of the 1/P of a random vector that a unit vector holds on average; it holds less in 8 % of all cases
STEPS = 8  # of the chain for which a basis has room besides, so that a restart keeps it
ZERO = 1e-12  # of the largest eigenvalue: F has a lower rank
NOISE = 1e-6  # of the largest eigenvalue: what may be hidden from float32 where F has a lower rank
MARGIN = 1.01  # of an eigenvalue that would count as missed over the smallest that is wanted


class Scout:
    """A random unit vector z, and what a growing basis shows of how it is spread over the eigenvalues of F.

    Args:
        size: P.
        start: (b, P) orthonormal: where the basis begins.
    """

    def __init__(self, size: int, start: torch.Tensor) -> None:
        self._size, self._like, self._draws = size, start, 0
        self._known = torch.eye(len(start), dtype=torch.float64)  # (b, c) in the basis: what was there before z
        self.settled = False  # whether a larger eigenvalue would have shown
        self.restart()
        self._in_basis = True

    def restart(self) -> None:
        """Begin with another vector, since the basis has lost the products with this one."""
        vector = torch.randn(self._size, generator=torch.Generator().manual_seed(self._draws))
        self.vector = (vector / float(lengths(vector[None]))).to(self._like)[None]  # (1, P)
        self._draws += 1
        self._start = torch.empty(0, dtype=torch.float64)  # z in the basis
        self._steps = 0
        self._in_basis = False
        self._chain = torch.empty(0, 0, dtype=torch.float64)  # (m, b) the Lanczos vectors of z in the basis

    def beside(self, vectors: torch.Tensor) -> torch.Tensor:
        """The random vector (1, P), orthogonal to orthonormal ones (b, P); none (0, P) where these span nearly all.

        Were it not orthogonal, what the two have in common would be lost to rounding in their products with F.
        """
        for _ in range(2):
            self.vector = self.vector - (self.vector @ vectors.T) @ vectors
        size = float(lengths(self.vector))
        self.settled = size < 1e-2
        self.vector = self.vector[:0] if self.settled else self.vector / size
        return self.vector

    def follow(
        self,
        basis: torch.Tensor,
        products: torch.Tensor,
        rotation: torch.Tensor,
        values: torch.Tensor,
        k: int,
        *,
        found: bool,
    ) -> torch.Tensor:
        """The direction to go on in (1, P), or none (0, P) once this is settled.

        Args:
            basis: Q (b, P).
            products: F Q (b, P).
            rotation: (b, b) float64: the Ritz vectors in the basis, as columns.
            values: (b,) float64: their Ritz values, largest first.
            k: how many pairs are wanted.
            found: whether these have converged; before, a larger eigenvalue may be mixed into them.
        """
        if self.settled:
            return self.vector[:0]
        if not self._in_basis:
            self._in_basis = True
            return self.vector
        if not len(self._start):
            self._start = (basis @ self.vector[0]).double().cpu()
        self._steps += 1
        others = rotation.T @ padded(self._start, len(basis))
        others[:k] = 0.0
        chain = Chain(values, others, self._steps)
        self._chain = torch.stack(chain.vectors) @ rotation.T
        last = chain.vectors[-1]
        image = self._chain[-1].to(products) @ products
        outside = float(lengths(image[None]).cpu()) ** 2 - float((values * last).square().sum())
        if found and len(values) > k:
            least, largest = float(values[k - 1]), float(values[0])
            theta = NOISE * largest if least <= ZERO * largest else MARGIN * least
            if chain.hidden_at_most(theta, math.sqrt(max(outside, 0.0))) <= CHANCE / self._size:
                if self._entered(rotation[:, values > theta]) < 0.5:
                    self.settled = True
                else:
                    return self._followed_by_another(rotation[:, :k], basis)
        return self.vector[:0] if self.settled else image[None]

    def _entered(self, wanted: torch.Tensor) -> float:
        """How many dimensions of the wanted vectors (b, c) in the basis were not there before z."""
        return wanted.shape[1] - float((padded(self._known, len(wanted)).T @ wanted).square().sum())

    def _followed_by_another(self, wanted: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
        """Another random vector, orthogonal to the wanted ones (b, k) in the basis."""
        self.restart()
        self._known, self._in_basis = wanted, True
        return self.beside(wanted.T.to(basis) @ basis)

    def kept(self, vectors: torch.Tensor, least: int, room: int) -> torch.Tensor:
        """What a restart keeps of a basis (b, c): orthonormal columns for `vectors` (b, c'), and the chain if it fits.

        Args:
            vectors: orthonormal ones, the leading ones first.
            least: how many of them are kept in any case.
            room: the largest number of columns.
        """
        if not len(self._chain):  # the random vector is among the directions that are about to be taken in
            self._known = vectors.T @ padded(self._known, len(vectors))
            return vectors
        if least + len(self._chain) > room:
            self.restart()
            self._known = torch.eye(vectors.shape[1], dtype=torch.float64)[:, :least]
            return vectors
        vectors = vectors[:, : room - len(self._chain)]
        kept: torch.Tensor = torch.linalg.qr(torch.cat([vectors, self._chain.T], dim=1)).Q
        self._start, self._known = (kept.T @ padded(each, len(kept)) for each in (self._start, self._known))
        return kept


class Chain:
    """The Lanczos vectors of z in a basis of Ritz vectors, and with them its orthonormal polynomials.

    Args:
        values: (b,) float64: Ritz values.
        start: (b,) float64: z.
        steps: how many powers of F were applied to z, one after the other.
    """

    def __init__(self, values: torch.Tensor, start: torch.Tensor, steps: int) -> None:
        self._alphas: list[float] = []
        self._betas = [float(start.norm())]
        self.vectors = [start / max(self._betas[0], 1e-300)]  # (b,) each
        for step in range(steps):
            current = self.vectors[-1]
            image = values * current
            self._alphas.append(float(current @ image))
            rest = image - self._alphas[-1] * current
            if step:
                rest = rest - self._betas[-1] * self.vectors[-2]
            self._betas.append(float(rest.norm()))
            if step + 1 == steps or self._betas[-1] == 0:
                return
            self.vectors.append(rest / self._betas[-1])

    def hidden_at_most(self, theta: float, outside: float) -> float:
        """The largest share of z at eigenvalues from theta on, which is above all Ritz values.

        Beyond the zeros of the orthonormal polynomials p_j of a measure lies at most 1 / sum_j p_j(theta)^2 of it, by
        the inequalities of Chebyshev, Markov and Stieltjes (G. Szego, Orthogonal Polynomials, section 3.41).

        Args:
            outside: the length of what F makes of the last vector beyond the basis.
        """
        if self._betas[0] == 0:
            return 0.0
        betas = [*self._betas[:-1], math.hypot(self._betas[-1], outside)]
        before, polynomial = 0.0, 1 / betas[0]
        total = polynomial**2
        for step, alpha in enumerate(self._alphas):
            if betas[step + 1] <= 1e-7 * theta:
                return 0.0  # z lies in the eigenvectors that it has shown
            ahead = (theta - alpha) * polynomial - (betas[step] * before if step else 0.0)
            before, polynomial = polynomial, ahead / betas[step + 1]
            total += polynomial**2
        return 1 / total
