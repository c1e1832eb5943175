"""The first passes of a network, with a few samples: in which layout it takes them, and what it is refused for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map_only

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.network import Network
from fishertail.gradients.random_state import RandomState
from fishertail.gradients.recording import Recording, leaves
from fishertail.gradients.saved_bytes import SavedBytes

SAMPLES = 3
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-7}  # relative to the largest value
SAME_SHAPE_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of outputs from batches of one shape
_UNCOUNTED = 1000  # bytes for a byte of the inputs, where what autograd saves is not known
FAULTS = (Exception,)  # a user's module may raise any


@dataclass(frozen=True)
class FirstPasses:
    """What a network gives for SAMPLES samples together, and for the first of them alone."""

    inputs: Any  # of the samples, as the network takes them
    outputs: torch.Tensor  # (SAMPLES, ...)
    together: Recording
    alone: Recording
    saved_bytes: int  # which autograd saves for all samples
    unruled: frozenset[str]  # parameters that an operation without a rule takes


def first_passes(network: Network, samples: Any) -> FirstPasses:
    """Run a network with SAMPLES samples, of which it gets a copy and a layout that suit it.

    Raises:
        UnsupportedModelError: it cannot be run, uses Parameters that no copy has, is random, or its samples influence
            one another.
    """
    before = RandomState(network.device)
    try:
        found, independent = _first_passes(network, samples)
    finally:
        random = before.restore()
    if random:
        raise UnsupportedModelError(
            "the network draws random numbers, so per-sample gradients are not defined; call model.eval(), or leave "
            "out what is random"
        )
    if not independent:
        raise UnsupportedModelError(
            "the output of a sample in a batch differs from its output alone: samples of a batch influence one "
            "another, or the network is random; per-sample gradients are not defined"
        )
    return found


def taken(inputs: Any, index: Sequence[int]) -> Any:
    """Inputs of the samples at some positions of a batch."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor[list(index)], inputs)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Whether two tensors agree, relative to the largest value."""
    size = float(expected.abs().nan_to_num(posinf=0.0, neginf=0.0).max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(
        found, expected, rtol=tolerance, atol=tolerance * size, equal_nan=True
    )


def _first_passes(network: Network, samples: Any) -> tuple[FirstPasses, bool]:
    """The passes, and whether no sample influences the output of another."""
    network.channels_last, preferred = False, network.channels_last
    own, outputs = network.cast(samples), None
    network.channels_last = preferred
    inputs = network.cast(samples)
    if not _same_layout(inputs, own):
        expected = _run(network, own)[0].detach()
        try:
            outputs, together, saved = _self_contained(network, inputs)
        except UnsupportedModelError:  # as `view` of what a convolution returns
            network.channels_last = False
        else:
            network.channels_last = close(outputs.detach(), expected, TOLERANCE[network.dtype])
    if not network.channels_last or outputs is None:
        inputs = own
        outputs, together, saved = _self_contained(network, inputs)
    alone, unruled, independent = _independent(network, inputs, outputs.detach())
    return FirstPasses(inputs, outputs, together, alone, saved, unruled), independent


def _run(
    network: Network, inputs: Any, samples: int = SAMPLES, apart: Mapping[str, Sequence[str]] | None = None
) -> tuple[torch.Tensor, Recording]:
    """As `Network.run`, with an error that says what the model was called with."""
    try:
        return network.run(inputs, samples, watched=[""], apart=apart)
    except UnsupportedModelError:
        raise
    except FAULTS as error:
        tensors = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
        shapes = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors)
        floats = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.dtype == torch.uint8]
        other = any(tensor.dtype != network.dtype for tensor in floats)
        hint = f"; its parameters are {network.dtype}, which the images may have to be, too" if other else ""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedModelError(
            f"the model cannot be called with a batch of {samples} ({shapes}): {reason}{hint}"
        ) from error


def _same_layout(inputs: Any, others: Any) -> bool:
    pairs = zip(tree_flatten(inputs)[0], tree_flatten(others)[0], strict=True)
    return all(a.stride() == b.stride() for a, b in pairs if isinstance(a, torch.Tensor))


def _self_contained(network: Network, inputs: Any) -> tuple[torch.Tensor, Recording, int]:
    """The outputs of a copy that uses no Parameter of the user's, its recording, and the bytes that autograd saves.

    The copy has to be a deep one if the model holds its parts not only as modules and parameters.
    """
    for deep in (False, True):
        if deep:
            network.copy(deep)
        outputs, recording, saved = _counted(network, inputs)
        if not (passed_by := network.passed_by(outputs)):
            return outputs, recording, saved
    raise UnsupportedModelError(
        f"parameter {passed_by[0]!r}: a use by way of the module's own attributes expected, found one by way of a "
        "closure or a global variable, which no copy of the model can follow"
    )


def _counted(network: Network, inputs: Any) -> tuple[torch.Tensor, Recording, int]:
    """The outputs, what is recorded, and the bytes that autograd saves; roughly where torch.func cannot count them."""
    try:
        with SavedBytes(network.model) as saved:
            outputs, recording = _run(network, inputs)
    except UnsupportedModelError:  # derivatives inside the model, such as forces, do not allow the counting
        outputs, recording = _run(network, inputs)
        tensors = [leaf for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
        return outputs, recording, _UNCOUNTED * sum(tensor.nbytes for tensor in tensors)
    return outputs, recording, saved.bytes


def _independent(network: Network, inputs: Any, together: torch.Tensor) -> tuple[Recording, frozenset[str], bool]:
    """What is recorded of the first sample alone, and which of its parameters are used where nothing is recorded; and
    whether outputs stay the same among other samples, or none."""
    alone, recording = _run(network, taken(inputs, [0]), 1, apart={})
    reached = {id(leaf) for leaf in leaves(alone)}
    unruled = frozenset(name for name, parameter in network.trained() if id(parameter) in reached)
    surrounded = _run(network, taken(inputs, [2, 1, 1]))[0].detach()[1]  # by other samples than in the batch
    same = close(alone.detach()[0], together[0], TOLERANCE[network.dtype])
    return recording, unruled, same and close(surrounded, together[1], SAME_SHAPE_TOLERANCE[network.dtype])
