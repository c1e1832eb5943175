"""A lock on a folder, so that one process at a time writes into it; the kernel releases it when the process ends."""

import os
import weakref
from pathlib import Path

from fishertail.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"
_HELD: "weakref.WeakValueDictionary[Path, Lock]" = weakref.WeakValueDictionary()


class Lock:
    """A lock that holds as long as this object lives.

    It is a record lock (`lockf`), not `flock`: worker processes that are forked in training, and may outlive it, do not
    inherit it. A process opens the file once, since closing any descriptor of it would drop the lock.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self.descriptor)

    def is_of(self, path: Path) -> bool:
        """Whether the file is the one that was opened: a folder may be deleted and made again."""
        return path.exists() and os.path.samestat(os.fstat(self.descriptor), path.stat())


def locked(folder: Path) -> Lock | None:
    """Lock a folder for this process, which may have done so already.

    Returns:
        the lock; None where the file system has no locks, as some of a network.

    Raises:
        StorageError: another process holds it.
    """
    if fcntl is None:
        return None
    path = folder.resolve() / FILE
    try:
        lock = _HELD.get(path)
        if lock is None or not lock.is_of(path):
            lock = Lock(path)
        fcntl.lockf(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(
            f"{folder}: another process measures into this folder; wait for its end, or give another folder"
        ) from None
    except OSError:
        return None
    _HELD[path] = lock
    return lock
