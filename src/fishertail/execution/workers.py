"""The processes of a job: torch's threads in each, and checkpoints spread over GPUs, or CPU workers, by submitit."""

import ctypes
import os
import pickle
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch

from fishertail.errors import FishertailError, NodeError, WorkerError

if TYPE_CHECKING:
    import submitit

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_LOG_LINES = 20  # of a worker that died
_WEEK = 7 * 24 * 60  # minutes: submitit's own limit is a few; a job has that of its scheduler
_POLL = 0.1  # seconds
_SQUEUE_EVERY = 15  # seconds

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    function: Callable[[dict[int, Item]], Result],
    items: Mapping[int, Item],
    *,
    workers: int = 1,
    gpus: Sequence[str] = (),
    threads: int = 1,
) -> list[Result]:
    """Call `function` with shares of `items`, each in its own process, and return what it returned.

    Items are dealt out in turn, since the first checkpoints cost more than the last. At equal threads per worker the
    results do not depend on the number of workers.

    Args:
        function: picklable by submitit, and so is what it returns.
        items: by SGD step.
        workers: how many processes; with one, or one item, everything is done in this process, by the threads of a
            worker.
        gpus: as CUDA_VISIBLE_DEVICES has them; worker i sees only the i-th. As many as workers, or none.
        threads: of each worker.

    Raises:
        WorkerError: a worker died; the message ends with the last lines of its log. The other workers are stopped.
        Exception: the first that a worker raised, as it was there; its traceback is in the worker's log.
        NodeError: submitit is not installed.
    """
    wanted, workers = workers, max(1, min(workers, len(items)))
    if workers == 1:
        if wanted > 1:
            prepare_process(threads)
        return [function(dict(items))]
    shares = [dict(list(items.items())[first::workers]) for first in range(workers)]
    tasks = [(function, share, gpus[i] if gpus else None, threads) for i, share in enumerate(shares)]
    with tempfile.TemporaryDirectory(prefix="fishertail-") as folder:
        return _submitted(tasks, shares, "local", folder, {"timeout_min": _WEEK})


def submit(
    function: Callable[[dict[int, Item]], Result],
    shares: Sequence[dict[int, Item]],
    *,
    cluster: str,
    folder: str | Path,
    parameters: Mapping[str, Any],
) -> list[Result]:
    """Call `function` with each of the shares in a job of its own, and return what it returned.

    Args:
        cluster: slurm, or local for processes of this machine.
        folder: where submitit keeps scripts, logs and results; on Slurm all nodes must see it.
        parameters: of submitit's executor.

    Raises:
        WorkerError, NodeError, Exception: see `spread`.
    """
    own = {"timeout_min": _WEEK} if cluster == "local" else {}
    tasks = [(function, share, None, None) for share in shares]
    return _submitted(tasks, shares, cluster, folder, own | dict(parameters))


def _submitted(
    tasks: Sequence[tuple[Any, ...]],
    shares: Sequence[Mapping[int, Any]],
    cluster: str,
    folder: str | Path,
    parameters: Mapping[str, Any],
) -> list[Any]:
    """The results of the tasks, by submitit. Whatever ends the wait also ends the jobs."""
    try:
        import submitit  # takes 0.2 s, and is not needed with one process
    except ModuleNotFoundError as error:
        raise NodeError(f"{error.name} expected, which is not installed: pip install submitit") from error

    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **{f"{cluster}_max_pickle_size_gb": 16})
    executor.update_parameters(**parameters)
    jobs = []
    try:
        for task in tasks:
            jobs.append(executor.submit(_work, *task))
        return _results(jobs, shares, cluster)
    finally:
        for job in jobs:
            if not job.done():
                _kill(job) if cluster == "local" else job.cancel(check=False)
        print("".join(map(_log, jobs)), end="")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def prepare_process(threads: int) -> None:
    """Set threads, precision and memory as every process that computes needs them."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)  # scipy's
    torch.backends.cudnn.allow_tf32 = False  # its products keep 10 bits; matrix products are float32 by default
    _keep_freed_memory()


def _work(
    function: Callable[[dict[int, Item]], Result], share: dict[int, Item], gpu: str | None, threads: int | None
) -> tuple[Result | None, Exception | None]:
    """In a worker: what the function returns, or the error that it raises."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it when it is first used, which is later
    if threads is not None:
        prepare_process(threads)
    try:
        return function(share), None
    except Exception as error:
        if not isinstance(error, FishertailError):
            traceback.print_exc()
        return None, portable(error)


def portable(error: Exception) -> Exception:
    """An error as another process can have it: itself, or `WorkerError` with its words where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")
    return error


def _results(jobs: "Sequence[submitit.Job[Any]]", shares: Sequence[Mapping[int, Any]], cluster: str) -> list[Any]:
    """What the jobs returned, in their order; the first that failed ends the wait."""
    results: dict[int, Any] = {}
    pending = dict(enumerate(jobs))
    queue = _SlurmQueue() if cluster == "slurm" else None
    while pending:
        for number in [number for number, job in pending.items() if job.done()]:
            results[number] = _result(pending.pop(number), number, shares)
        if queue is not None:
            for number in queue.lost(pending):
                raise _died(pending[number], number, shares)
        time.sleep(_POLL if queue is None else 10 * _POLL)
    return [results[number] for number in range(len(jobs))]


class _SlurmQueue:
    """Which jobs have left the queue without a result. submitit asks accounting, which some sites do not have."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._missed: dict[int, int] = {}

    def lost(self, jobs: "Mapping[int, submitit.Job[Any]]") -> list[int]:
        """Those of `jobs`, by number, that were in the queue at neither of the last two queries."""
        if time.monotonic() - self._asked < _SQUEUE_EVERY or not jobs:
            return []
        self._asked = time.monotonic()
        done = subprocess.run(["squeue", "--noheader", "--me", "--format=%i"], capture_output=True, text=True)
        if done.returncode:  # a scheduler that does not answer is waited for
            return []
        queued = set(done.stdout.split())
        for number, job in jobs.items():
            self._missed[number] = 0 if job.job_id in queued or job.done() else self._missed.get(number, 0) + 1
        return [number for number in jobs if self._missed[number] > 1]


def _result(job: "submitit.Job[Any]", number: int, shares: Sequence[Mapping[int, Any]]) -> Any:
    import submitit

    try:
        result, fault = job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
        raise _died(job, number, shares) from error
    if fault is not None:
        raise fault
    return result


def _died(job: "submitit.Job[Any]", number: int, shares: Sequence[Mapping[int, Any]]) -> WorkerError:
    last = "\n".join(_log(job).splitlines()[-_LOG_LINES:])
    steps = ", ".join(map(str, shares[number]))
    return WorkerError(f"worker {number + 1} of {len(shares)} (steps {steps}) died; its log ends:\n{last}")


def _kill(job: "submitit.Job[Any]") -> None:
    """End a worker and submitit's process above it. Background jobs ignore SIGINT, which is what cancel() sends."""
    try:
        controller = psutil.Process(int(job.job_id))
        processes = [*controller.children(recursive=True), controller]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    while not job.done():
        time.sleep(_POLL)


def _log(job: "submitit.Job[Any]") -> str:
    paths = (job.paths.stdout, job.paths.stderr)
    return "".join(Path(path).read_text(encoding="utf-8", errors="replace") for path in paths if Path(path).exists())


def _keep_freed_memory() -> None:
    """Let malloc keep large buffers instead of returning them: page faults took a fifth of a pass."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):  # another C library
        pass
