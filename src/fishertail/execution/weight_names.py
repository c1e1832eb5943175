"""The names of weights in a file, compared with those of the model: what wraps a model prefixes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from fishertail.errors import CheckpointError

_WRAPPERS = ("module.", "model.", "net.")  # of DistributedDataParallel, and usual names of a LightningModule's network
_COMPILED = "_orig_mod."  # of torch.compile, also inside a name
_SHOWN = 5  # names in an error


@dataclass(frozen=True)
class Fit:
    """How the names of a file, without a prefix, compare with those of the model."""

    prefix: str  # what the names in the file begin with, and those of the model do not
    names: dict[str, str]  # in the file, by those of the model
    missing: list[str]
    unexpected: list[str]


def fitted(where: str, tensors: Mapping[str, torch.Tensor], model: nn.Module) -> Fit:
    """The names in a file for those of the model, without the prefixes of wrappers where these keep them from fitting.

    What lies outside of such a prefix belongs to what wraps the model, and is left out.

    Args:
        where: the file, for the error.

    Raises:
        CheckpointError: weights of the model are missing, others are there, or a shape differs.
    """
    expected = model.state_dict(keep_vars=True)
    compiled = any(_COMPILED in name for name in expected)
    plain = {name if compiled else name.replace(_COMPILED, ""): name for name in tensors}
    fit = min((_compared(plain, prefix, expected) for prefix in _prefixes(plain)), key=_faults)
    if _faults(fit):
        lacks = [f"lacks {listed(fit.missing)}"] if fit.missing else []
        has = [f"has {listed(fit.unexpected)}"] if fit.unexpected else []
        raise CheckpointError(f"{where}: the weights of the model expected; it {' and '.join(lacks + has)}")
    for name, in_file in fit.names.items():
        if (found := tensors[in_file].shape) != (shape := expected[name].shape):
            raise CheckpointError(f"{where}: {in_file}: shape {tuple(shape)} expected, found {tuple(found)}")
    if not fit.prefix and any(name.startswith(_COMPILED) for name in set(tensors) - set(plain)):
        return replace(fit, prefix=_COMPILED)
    return fit


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _compared(plain: Mapping[str, str], prefix: str, expected: Mapping[str, torch.Tensor]) -> Fit:
    """A tied parameter may stand under any of its names: safetensors keeps one of them."""
    tied: dict[int, list[str]] = {}
    for name, tensor in expected.items():
        tied.setdefault(id(tensor), []).append(name)
    names: dict[str, str] = {}
    for name, tensor in expected.items():
        known = [plain[prefix + other] for other in (name, *tied[id(tensor)]) if prefix + other in plain]
        names |= {name: known[0]} if known else {}
    unexpected = [name for name in plain if name.startswith(prefix) and name.removeprefix(prefix) not in expected]
    return Fit(prefix, names, [name for name in expected if name not in names], unexpected)


def _faults(fit: Fit) -> int:
    return len(fit.missing) + len(fit.unexpected)


def _prefixes(names: Iterable[str]) -> list[str]:
    """None, and the wrappers, one in the other, that names begin with; the shortest first."""
    found = {""}
    for name in names:
        prefix = ""
        while wrapper := next((each for each in _WRAPPERS if name.startswith(each, len(prefix))), None):
            prefix += wrapper
            found.add(prefix)
    return sorted(found, key=len)
