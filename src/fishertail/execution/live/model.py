"""The model of a training loop, out of the wrappers of torch, and whole copies of it to measure."""

import copy
import os

import torch
from torch import distributed, nn

from fishertail.errors import UnsupportedModelError
from fishertail.gradients.model_checks import check_model
from fishertail.gradients.private_copy import unwrapped


class WatchedModel:
    """A model in training, of which this process measures copies if its rank is 0.

    Args:
        model: on its own, or in `DistributedDataParallel`, `DataParallel` or `torch.compile`.

    Attributes:
        device: that of its parameters.

    Raises:
        UnsupportedModelError: it is sharded already, or cannot be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        check_model(model)
        self._model = _inner(model)
        self.device = next((each.device for each in self._model.parameters()), torch.device("cpu"))
        if _flattened(self._model) or self.sharded:
            raise UnsupportedModelError(
                "model: a whole model expected, found one that is sharded; make the Watch before `fully_shard`, and "
                "give it the same model (FullyShardedDataParallel, its predecessor, is not supported)"
            )
        self._prepared = _processes() > 1
        self._whole = _copy(self._model).to("cpu") if self._prepared and self.measures else None  # filled from shards

    @property
    def measures(self) -> bool:
        """Whether this process measures: the others only help to gather shards."""
        return _rank() == 0

    @property
    def sharded(self) -> bool:
        """Whether `fully_shard`, or tensor parallelism, has cut its parameters."""
        if not distributed.is_available():
            return False
        from torch.distributed.tensor import DTensor

        return any(isinstance(each, DTensor) for each in self._model.parameters())

    def agreed(self, steps: set[int]) -> set[int]:
        """The steps as rank 0 has them, where all ranks must do the same.

        Raises:
            UnsupportedModelError: the model was sharded, and this was made before there were processes.
        """
        if not self.sharded:
            return steps
        if not self._prepared:
            raise UnsupportedModelError(
                "model: it is sharded now; make the Watch after `init_process_group` and before `fully_shard`"
            )
        given = [steps]
        distributed.broadcast_object_list(given, src=0)
        return given[0]

    def copy(self) -> nn.Module | None:
        """A copy of the model as it stands, of shards gathered from all ranks; None where rank is not 0.

        Raises:
            UnsupportedModelError: it cannot be copied.
        """
        if not self.sharded:
            return _copy(self._model) if self.measures else None
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self._model, options=options)  # empty on other ranks
        if self._whole is None:
            return None
        self._whole.load_state_dict(state)
        return _copy(self._whole)


def _inner(model: nn.Module) -> nn.Module:
    """The module that the wrappers of torch hold."""
    while True:
        inner = unwrapped(model)
        if isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = inner.module
        if inner is model:
            return model
        model = inner


def _flattened(model: nn.Module) -> bool:
    """Whether `FullyShardedDataParallel` holds a part of it."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise UnsupportedModelError(f"model: one that `copy.deepcopy` can copy expected ({said})") from error


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _rank() -> int:
    return distributed.get_rank() if _started() else int(os.environ.get("RANK", 0))


def _processes() -> int:
    return distributed.get_world_size() if _started() else int(os.environ.get("WORLD_SIZE", 1))
