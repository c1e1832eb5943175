"""F for curvlinops' estimators of spectra, traces and diagonals, which take PyTorch vectors."""

from collections.abc import Sequence

import torch
from scipy.sparse.linalg import LinearOperator

from fishertail.fisher.curvlinops_extra import PyTorchLinearOperator


class SymmetricOperator(PyTorchLinearOperator):  # type: ignore[misc]
    """A symmetric operator of SciPy (P x P), with vectors of float64 on the CPU."""

    SELF_ADJOINT = True
    device, dtype = torch.device("cpu"), torch.float64

    def __init__(self, operator: LinearOperator) -> None:
        size = operator.shape[0]
        super().__init__([(size,)], [(size,)])
        self._operator = operator

    def _matmat(self, X: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        (columns,) = X
        return [torch.from_numpy(self._operator.matmat(columns.numpy()))]
