"""How a model is called, and which tensor of its output the loss is of."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fishertail.errors import UnsupportedModelError


def called(model: nn.Module, inputs: Any) -> Any:
    """What a model returns for a tensor, a tuple of arguments or a mapping of named ones."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(*positional(inputs))


def positional(inputs: Any) -> tuple[Any, ...]:
    """Inputs without names as positional arguments."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def chosen_output(outputs: Any, wanted: str | int | None, samples: int) -> torch.Tensor:
    """The output (n, ...) that the loss is of.

    Args:
        outputs: whatever the model returned.
        wanted: a key, an attribute or a place in a tuple; None for the only tensor, or that named `logits`.
        samples: n.

    Raises:
        UnsupportedModelError: there is no such output, or it is no tensor with a row for each sample.
    """
    chosen = outputs
    if wanted is not None:
        try:
            by_key = isinstance(outputs, Mapping | tuple | list)
            chosen = outputs[wanted] if by_key else getattr(outputs, str(wanted))
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UnsupportedModelError(
                f"output: the model's output has no {wanted!r}; found {_described(outputs)}"
            ) from None
    elif isinstance(outputs, Mapping) and "logits" in outputs:
        chosen = outputs["logits"]
    elif not isinstance(outputs, torch.Tensor) and isinstance(getattr(outputs, "logits", None), torch.Tensor):
        chosen = outputs.logits
    if not isinstance(chosen, torch.Tensor):
        raise UnsupportedModelError(
            "the model must return one tensor with a row for each sample, or something with `logits`; found "
            f"{_described(outputs)}: name the output that counts (output=...)"
        )
    if chosen.ndim == 0 or len(chosen) != samples:
        raise UnsupportedModelError(
            f"the model must return one tensor with a row for each sample, found {tuple(chosen.shape)} for "
            f"{samples} samples"
        )
    return chosen


def _described(outputs: Any) -> str:
    kind = type(outputs).__name__
    if isinstance(outputs, torch.Tensor):
        return f"{kind} {tuple(outputs.shape)}"
    if isinstance(outputs, Mapping):
        return f"{kind} with {', '.join(map(str, outputs))}"
    return f"{kind} of {len(outputs)}" if isinstance(outputs, tuple | list) else kind
