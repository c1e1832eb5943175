"""Which samples the probe is made of."""

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.gradients.inputs import Samples

_CANDIDATES = 16  # spaces between the samples that are looked at


def probe_inputs(samples: Samples) -> Any:
    """Inputs of three samples, which differ in length where samples do.

    Of some samples that are spread over the data, these are the ones with the most and the fewest entries that are not
    0 (as padding is), and one in between; they are ordered neither by rising nor by falling number. So a network that
    orders a batch by length, or leaves padding out, shows it. Where all have as many entries, these are the first, the
    middle and the last sample. Samples with an entry that is not finite tell nothing, and are left out if they can be.
    """
    last = len(samples) - 1
    index = sorted({last * place // _CANDIDATES for place in range(_CANDIDATES + 1)})
    inputs, _ = samples.read(torch.tensor(index))
    finite = [place for place, each in enumerate(_finite(inputs)) if each]
    if 0 < len(finite) < len(index):
        index = [index[place] for place in finite]
        inputs = tree_map_only(torch.Tensor, lambda tensor: tensor[finite], inputs)
    chosen = _different(_lengths(inputs)) or [0, (len(index) - 1) // 2, len(index) - 1]
    return tree_map_only(torch.Tensor, lambda tensor: tensor[chosen], inputs)


def _finite(inputs: Any) -> list[bool]:
    """(n,) whether all entries of a sample are finite."""
    leaves = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
    found = [leaf.reshape(len(leaf), -1).isfinite().all(1).cpu() for leaf in leaves]
    return torch.stack(found).all(0).tolist() if found else []


def _lengths(inputs: Any) -> list[int]:
    """(n,) the number of entries of each sample that are not 0."""
    leaves = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
    counts = [leaf.reshape(len(leaf), -1).count_nonzero(1).cpu() for leaf in leaves]
    return torch.stack(counts).sum(0).tolist() if counts else []


def _different(lengths: list[int]) -> list[int] | None:
    """Positions of three samples, the outer two of which differ in length from the one between; None if none do."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if not order or lengths[order[0]] == lengths[order[-1]]:
        return None
    fewest, some, most = order[0], order[len(order) // 2], order[-1]
    return [fewest, most, some] if lengths[some] == lengths[fewest] else [most, fewest, some]
