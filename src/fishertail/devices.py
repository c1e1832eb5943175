"""Where to compute: any device that torch knows, checked before anything is done on it."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch

from fishertail.errors import DeviceError, NodeError

AUTO = "auto"


def automatic() -> str:
    """CUDA where there is a GPU, else another accelerator that has float64, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return "cpu"
    if not _has_float64(found):
        warnings.warn(f"device: auto takes the CPU, since {found.type} {_WITHOUT_FLOAT64}", stacklevel=2)
        return "cpu"
    return found.type


def known(name: str | torch.device, key: str = "device") -> torch.device:
    """The device of a name.

    Args:
        key: what the error calls the setting.

    Raises:
        DeviceError: torch knows no device of this name.
    """
    try:
        return torch.device(name)
    except (RuntimeError, TypeError):
        raise DeviceError(
            f"{key}: auto, or a device that this torch knows (cpu, cuda, cuda:1, xpu, ...), expected; found {name!r}"
        ) from None


def check(name: str | torch.device, key: str = "device") -> None:
    """Raise unless fishertail can compute on a device.

    Nothing is allocated on a CUDA GPU, since a worker may need it exclusively.

    Raises:
        DeviceError: torch knows no device of this name, or it has no float64.
        NodeError: this machine does not have it.
    """
    device = known(name, key)
    if device.type == "cpu":
        return
    module = getattr(torch, device.type, None)
    available = module is not None and hasattr(module, "is_available") and module.is_available()
    count = module.device_count() if module is not None and available else 0
    if (device.index or 0) >= count:
        raise NodeError(f"{key}: a device that torch finds here ({_present()}) expected, found '{name}'")
    if device.type != "cuda" and not _has_float64(device):
        raise DeviceError(f"{key}: a device with float64 expected, found '{name}', which {_WITHOUT_FLOAT64}")


def resolved(name: str | torch.device) -> torch.device:
    """The device of a name or of `auto`, checked, with its index: `cuda` is the same device as `cuda:0`.

    Raises:
        DeviceError, NodeError: see `check`.
    """
    name = automatic() if name == AUTO else name
    check(name)
    return torch.empty(0, device=name).device


def free_memory(device: torch.device | str) -> int:
    """Free memory in bytes: that of the device if torch reports it, else that of the machine."""
    device = torch.device(device)
    query = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return psutil.virtual_memory().available if device.type == "cpu" or query is None else query(device)[0]


def names(device: torch.device | str) -> list[str]:
    """The vendor's names of the visible devices of this type; empty if torch does not know them."""
    module = getattr(torch, torch.device(device).type, None)
    if module is None or not hasattr(module, "get_device_name"):
        return []
    return [module.get_device_name(index) for index in range(module.device_count())]


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context without autocast. It does nothing where autocast is off: a vendor's plugin may not support it."""
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


_WITHOUT_FLOAT64 = "has no float64, in which losses and norms are computed"


def _has_float64(device: torch.device) -> bool:
    torch.ones(1, device=device)  # any other reason why it cannot compute raises its own error
    try:
        torch.ones(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError):
        return False
    return True


def _present() -> str:
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return "cpu"
    return ", ".join(["cpu", *(f"{found.type}:{index}" for index in range(torch.accelerator.device_count()))])
