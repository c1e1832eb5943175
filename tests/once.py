"""What is made once per pytest run: by the worker that needs it first, while the others wait."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

shared: Path | None = None  # a folder of this pytest run, for all its workers; tests/conftest.py says which


def made(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which `make` has filled; not to be changed."""
    folder, whole = shared / name, shared / f"{name}.whole"
    with FileLock(shared / f"{name}.lock"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failure left
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder
