"""Where the eigenvalues of the Fisher information come from: every sample's gradient, followed through training."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fishertail.fisher.eigenpairs import Eigenpairs, fisher_eigenpairs
    from fishertail.gradients.layer_rules import register_layer_rule
    from fishertail.gradients.matrix import GradientNorms, gradient_norms
    from fishertail.mad import Outliers, outliers
    from fishertail.runs import RunAnalysis, analyse_run
    from fishertail.stopping import OutlierStop

_MODULES = {
    "GradientNorms": "gradients.matrix",
    "gradient_norms": "gradients.matrix",
    "register_layer_rule": "gradients.layer_rules",
    "Eigenpairs": "fisher.eigenpairs",
    "fisher_eigenpairs": "fisher.eigenpairs",
    "Outliers": "mad",
    "outliers": "mad",
    "RunAnalysis": "runs",
    "analyse_run": "runs",
    "OutlierStop": "stopping",
}

__all__ = [
    "Eigenpairs",
    "GradientNorms",
    "OutlierStop",
    "Outliers",
    "RunAnalysis",
    "analyse_run",
    "fisher_eigenpairs",
    "gradient_norms",
    "outliers",
    "register_layer_rule",
]


def __getattr__(name: str):
    """Import torch and pandas only when something that needs them is asked for: cluster programs start in 30 ms."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"fishertail.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'fishertail' has no attribute {name!r}")
