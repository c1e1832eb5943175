"""Where the eigenvalues of the Fisher information come from: every sample's gradient, followed through training."""

import importlib
from typing import TYPE_CHECKING

from fishertail.outliers import Outliers, outliers  # now, or the module of that name would hide the function later

if TYPE_CHECKING:
    from fishertail.fisher import Eigenpairs, fisher_eigenpairs
    from fishertail.gradients import GradientNorms, gradient_norms

_NEED_TORCH = {
    "GradientNorms": "gradients",
    "gradient_norms": "gradients",
    "Eigenpairs": "fisher",
    "fisher_eigenpairs": "fisher",
}

__all__ = ["Eigenpairs", "GradientNorms", "Outliers", "fisher_eigenpairs", "gradient_norms", "outliers"]


def __getattr__(name: str):
    """Import torch only when something that needs it is asked for: the Snakefile is parsed without it."""
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"fishertail.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module 'fishertail' has no attribute {name!r}")
