"""Multi-head attention."""

import types
from typing import Any

from torch.nn import functional as F

from fishertail.gradients.layer_rules.decomposition import Decomposition, decomposes
from fishertail.gradients.layer_rules.rule import Function


@decomposes(F.multi_head_attention_forward)
class Attention(Decomposition):
    """torch's own function, except that the linear layers it calls are seen.

    A function of torch.nn.functional hands itself to an open mode and is then seen as one call. A copy of it, with a
    global `has_torch_function` that denies this, runs through.
    """

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        assert isinstance(function, types.FunctionType)
        scope = {**function.__globals__, "has_torch_function": lambda *_: False}
        self._opened = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
        self._opened.__kwdefaults__ = function.__kwdefaults__

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._opened(*args, **kwargs)
