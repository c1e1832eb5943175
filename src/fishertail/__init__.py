"""Every training sample's gradient through training, and the eigenvalues of the empirical Fisher matrix."""

import importlib
from typing import TYPE_CHECKING

from fishertail import errors as errors

if TYPE_CHECKING:
    from fishertail.execution.analyse_run import analyse_run
    from fishertail.execution.live.watch import Watch
    from fishertail.execution.rank_samples import rank_samples
    from fishertail.execution.run_analysis import RunAnalysis
    from fishertail.fisher.eigenpairs import Eigenpairs, fisher_eigenpairs
    from fishertail.fisher.linear_operators import FisherOperator
    from fishertail.gradients.layer_rules import register_layer_rule
    from fishertail.gradients.matrix import GradientNorms, gradient_norms
    from fishertail.paper.stopping import OutlierStop
    from fishertail.statistics.outliers import Outliers, outliers

_MODULES = {
    "GradientNorms": "gradients.matrix",
    "gradient_norms": "gradients.matrix",
    "register_layer_rule": "gradients.layer_rules",
    "Eigenpairs": "fisher.eigenpairs",
    "fisher_eigenpairs": "fisher.eigenpairs",
    "FisherOperator": "fisher.linear_operators",
    "Outliers": "statistics.outliers",
    "outliers": "statistics.outliers",
    "RunAnalysis": "execution.run_analysis",
    "analyse_run": "execution.analyse_run",
    "rank_samples": "execution.rank_samples",
    "OutlierStop": "paper.stopping",
    "Watch": "execution.live.watch",
}

__all__ = [
    "Eigenpairs",
    "FisherOperator",
    "GradientNorms",
    "OutlierStop",
    "Outliers",
    "RunAnalysis",
    "Watch",
    "analyse_run",
    "fisher_eigenpairs",
    "gradient_norms",
    "outliers",
    "rank_samples",
    "register_layer_rule",
]


def __getattr__(name: str) -> object:
    """Import the module of a name on first use: programs that need neither torch nor pandas start in 30 ms."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"fishertail.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'fishertail' has no attribute {name!r}")
