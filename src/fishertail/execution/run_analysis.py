"""The tables of a training run, as `analyse_run` gives them."""

from dataclasses import dataclass
from typing import Any, NoReturn

import pandas as pd
import torch


@dataclass(frozen=True)
class RunAnalysis:
    """The tables of a run: norms, spectra and outliers of every sample's gradient at its checkpoints.

    Attributes:
        tables: every table by name, those of other measurements included, with the columns `step` and `epoch`;
            eigenvectors are tensors by name.
    """

    tables: dict[str, Any]

    @property
    def norms(self) -> pd.DataFrame:
        """step, epoch, sample, label, loss, correct, and the norm in each layer and the network."""
        return self._frame("norms")

    @property
    def gradients(self) -> NoReturn:
        """The name of `norms` in version 0.1."""
        raise AttributeError(
            "RunAnalysis.gradients is RunAnalysis.norms since version 0.2, with the columns step and epoch"
        )

    @property
    def outliers(self) -> pd.DataFrame:
        """step, epoch, layer, median, mad, outliers_distance, outliers_norm, samples."""
        return self._frame("outliers")

    @property
    def spectrum(self) -> pd.DataFrame:
        """step, epoch, layer, rank, eigenvalue, residual, converged, certified, products, trace."""
        return self._frame("spectrum")

    @property
    def projections(self) -> pd.DataFrame:
        """step, epoch, sample, and a_x of rank 1 in each layer and the network."""
        return self._frame("projections")

    @property
    def eigenvectors(self) -> dict[str, torch.Tensor]:
        """step00000059/fc4, ...: (k, P) float32."""
        found: dict[str, torch.Tensor] = self.tables["eigenvectors"]
        return found

    def _frame(self, name: str) -> pd.DataFrame:
        found: pd.DataFrame = self.tables[name]
        return found
