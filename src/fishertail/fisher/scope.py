"""`Scope`: a layer or the network on its way to its eigenpairs."""

from dataclasses import dataclass, field

import torch

from fishertail.fisher.eigenproblem import Eigenproblem
from fishertail.fisher.result import Eigenpairs, eigenpairs_of, next_at_most
from fishertail.fisher.space import Space
from fishertail.fisher.start import Start


@dataclass
class Scope:
    """The eigenproblem of one scope, and what the solver has found of it so far, in the order in which it is found."""

    name: str
    problem: Eigenproblem
    gram_of_all: torch.Tensor | None = None  # G G^T (N, N) float64, where the samples are few
    start_gram: torch.Tensor = field(init=False)  # W G G^T W (n, n) float64 of the samples of the start
    next_at_most: torch.Tensor = field(init=False)  # (k,) float64: upper bounds of the eigenvalue after each
    start: Start = field(init=False)
    space: Space = field(init=False)  # the eigenpairs over the active samples
    found: Eigenpairs = field(init=False)  # over all samples

    def take_start_gram(self, index: torch.Tensor, gram: torch.Tensor) -> None:
        """Take in G G^T of the samples of the start, at `index`."""
        self.start_gram = gram * torch.outer(*2 * [self.problem.weights[index]])
        self.next_at_most = next_at_most(self.problem, index, self.start_gram)

    def finish(self, active: torch.Tensor, of_others: torch.Tensor | None) -> None:
        """Put the eigenpairs over all samples together; for the arguments see `eigenpairs_of`."""
        self.found = eigenpairs_of(self.problem, self.space, active, of_others, self.next_at_most)

    @property
    def converged(self) -> bool:
        """Whether all eigenpairs have converged over all samples."""
        return bool(self.found.converged.all())

    @property
    def lacks_samples(self) -> bool:
        """Whether they have converged over the active samples, but not with what the others may add."""
        return bool(self.space.converged(self.space.residuals).all()) and not self.converged
