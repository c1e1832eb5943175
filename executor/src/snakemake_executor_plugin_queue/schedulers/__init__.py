"""What differs between schedulers: a file each, which holds a class `Scheduler`; its name is what sites write."""

import pkgutil
from importlib import import_module

from snakemake_executor_plugin_queue.schedulers.base import Queued, Scheduler, State

__all__ = ["NAMES", "Queued", "Scheduler", "State", "make"]

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


def make(name: str) -> Scheduler:
    """The scheduler of that name."""
    return import_module(f"{__name__}.{name}").Scheduler()
