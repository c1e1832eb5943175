"""Whether something draws random numbers."""

import random
from typing import Any

import numpy as np
import torch


class RandomState:
    """The state in which the random generators of torch, NumPy and Python are when it is made.

    Args:
        device: whose generator counts besides that of the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        module: Any = getattr(torch, device.type, None)
        self._device, self._module = device, module if hasattr(module, "get_rng_state") else None  # none for the CPU
        self._torch, self._others = self._of_torch(), (np.random.get_state(), random.getstate())

    def restore(self) -> bool:
        """Go back to that state. Returns whether it had changed."""
        numpy, python = self._others
        same = all(map(torch.equal, self._torch, self._of_torch()))
        same = same and random.getstate() == python and _equal(np.random.get_state(), numpy)
        if not same:
            torch.set_rng_state(self._torch[0])
            if self._module is not None:
                self._module.set_rng_state(self._torch[1], self._device)
            np.random.set_state(numpy)
            random.setstate(python)
        return not same

    def _of_torch(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        if self._module is not None:
            states.append(self._module.get_rng_state(self._device))
        return states


def _equal(state: Any, other: Any) -> bool:
    return all(np.array_equal(part, other_part) for part, other_part in zip(state, other, strict=True))
