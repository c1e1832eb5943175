"""One file per scheduler, with a class `Scheduler` in it. The file's name is what a site writes for `scheduler`."""

import pkgutil
from importlib import import_module
from pathlib import Path

from snakemake_executor_plugin_queue.errors import Refused
from snakemake_executor_plugin_queue.schedulers.base import Queued, Scheduler, State, Submission, option, table

__all__ = ["NAMES", "Queued", "Scheduler", "State", "Submission", "make", "option", "table"]

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


def make(name: str) -> Scheduler:
    """The scheduler of that name, which is one of `NAMES`. The files of the others are not imported.

    Raises:
        Refused: the file of the scheduler has a mistake; names the file and all that is missing or wrong.
    """
    file = Path(__path__[0]) / f"{name}.py"
    try:
        module = import_module(f"{__name__}.{name}")
    except Exception as error:  # whatever a file can raise while it is imported
        raise Refused(f"{file}: the file cannot be imported: {type(error).__name__}: {error}") from error
    kind = getattr(module, "Scheduler", None)
    if not isinstance(kind, type) or not issubclass(kind, Scheduler) or kind is Scheduler:
        raise Refused(f"{file}: a class Scheduler derived from base.Scheduler expected, found {kind!r}")
    if faults := kind.faults():
        raise Refused(f"{file}: class Scheduler: {'; '.join(faults)}")
    return kind()
