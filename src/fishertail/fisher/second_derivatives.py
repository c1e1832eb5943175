"""A context in which PyTorch's second derivatives exist, and are right, for the layers where they would not be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Attention by plain products, whose fused kernels have none, and layer normalisation by plain sums."""
    with sdpa_kernel(SDPBackend.MATH), _PlainLayerNorm():
        yield


class _PlainLayerNorm(TorchFunctionMode):
    """Compute layer normalisation from means.

    Of PyTorch's own, torch.func's second derivatives are wrong, without a word: Hessians come out asymmetric by a tenth
    (2.13.0; pytorch issue 196700).
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        own = _layer_norm if function in (nn.functional.layer_norm, torch.layer_norm) else function
        return own(*args, **(kwargs or {}))


def _layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.layer_norm`."""
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    normal = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias
