"""Builds the simulated accelerator of simulated.cpp, and shows it to torch as vendors' plugins do: by an entry point.

It says nothing about a GPU's kernels, streams or speed. It finds tensors that meet on two devices, device tensors that
are given to numpy, and code that takes CUDA for the only accelerator.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

NAME = "simulated"
LIBRARY = "SIMULATED_ACCELERATOR"  # environment variable: the built library, of which `load` tells torch
FREE_MEMORY = 1 << 30  # bytes that it says are free
_SOURCE = Path(__file__).with_name("simulated.cpp")
_PLUGIN = "simulated_accelerator"


def compiler() -> str | None:
    """The C++ compiler of this machine."""
    return shutil.which(os.environ.get("CXX", "c++"))


def built(folder: Path) -> Path:
    """The library, built once for a version of its source and of torch, however many processes ask for it."""
    import torch
    from torch.utils import cpp_extension

    version = hashlib.sha256(_SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = folder / f"{NAME}-{version}.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            command = [compiler(), "-std=c++20", "-O1", "-w", "-shared", "-fPIC", str(_SOURCE)]
            command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
            command += [f"-I{path}" for path in cpp_extension.include_paths()]
            command += [f"-L{path}" for path in cpp_extension.library_paths()]
            half = library.with_suffix(".half")
            done = subprocess.run([*command, "-lc10", "-ltorch_cpu", "-o", str(half)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-6000:]
            half.rename(library)
    return library


def plugin(folder: Path, library: Path) -> dict[str, str]:
    """Make a folder that makes every Python whose path it is on load the device with torch; gives its environment."""
    shutil.copy(__file__, folder / f"{_PLUGIN}.py")
    information = folder / f"{_PLUGIN}-1.0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_PLUGIN}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[torch.backends]\n{NAME} = {_PLUGIN}:load\n")
    return {"PYTHONPATH": str(folder), LIBRARY: str(library)}


def load() -> None:
    """What torch calls at the end of its own import."""
    import torch

    torch.ops.load_library(os.environ[LIBRARY])
    torch._register_device_module(NAME, _module())


def _module() -> ModuleType:
    """torch.simulated: what torch asks of any device."""
    import torch

    module, state = ModuleType(f"torch.{NAME}"), {"random": torch.zeros(1, dtype=torch.int64)}

    def set_rng_state(new_state: torch.Tensor, device: object = None) -> None:
        state["random"] = new_state.clone()

    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.get_device_name = lambda device=None: "Simulated accelerator"
    module.mem_get_info = lambda device=None: (FREE_MEMORY, 2 * FREE_MEMORY)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: set_rng_state(torch.tensor([seed % (1 << 62)]))
    module.get_rng_state = lambda device=None: state["random"].clone()
    module.set_rng_state = set_rng_state
    return module
