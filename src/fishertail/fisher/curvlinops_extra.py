"""What is taken from curvlinops, an extra of the package; to import this module without it is an error that says so."""

from fishertail.errors import NodeError

try:
    from curvlinops import HessianLinearOperator
    from curvlinops._torch_base import PyTorchLinearOperator
except ImportError as error:
    raise NodeError("curvlinops expected, which is not installed: pip install curvlinops-for-pytorch") from error

__all__ = ["HessianLinearOperator", "PyTorchLinearOperator"]
