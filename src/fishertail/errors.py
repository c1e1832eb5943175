"""The errors that a user is meant to read: one sentence that names the key or the file."""


class FishertailError(Exception):
    """Base of all errors below; a rule's script prints its message without a traceback."""


class ConfigError(FishertailError):
    """The configuration has faults; the message lists all of them with their dotted path."""


class DatasetError(FishertailError):
    """A data set is missing or malformed; the message names the file and the fault."""


class StorageError(FishertailError):
    """A file cannot be written, or no longer holds what was written to it."""


class DiskError(StorageError):
    """A file cannot be read or written for a reason that may pass: a full disk, a stale mount, no memory."""


class CheckpointError(FishertailError):
    """A checkpoint cannot be read or does not fit the model; the message names the file and the keys."""


class UsageError(FishertailError):
    """An option of the command line has no meaning; the message names it."""


class DivergedError(FishertailError):
    """The loss became non-finite; the message names the run, the epoch and the learning rate."""


class UnsupportedModelError(FishertailError, ValueError):
    """A per-sample gradient would be inexact or meaningless; the message names the layer and the reason."""


class DeviceError(FishertailError, ValueError):
    """torch does not know a device, or cannot compute there what is needed; the message names the setting."""


class WorkerError(FishertailError):
    """A worker process of a job died; the message ends with the last lines of its log."""


class NodeError(FishertailError):
    """A machine lacks what a job needs; another one may have it."""
