"""One measurement, in a process of its own: what it costs in passes, in memory, and how exact it is.

python -m benchmarks.measure '{"kind": "norms", "method": "fishertail", ...}' prints a line of JSON.
"""

import ctypes
import json
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks import exactness, loops, methods, networks, passes, problems
from benchmarks.passes import Clock, Pass
from fishertail.execution.workers import prepare_process

RATES = {"fc": 0.05, "conv": 0.001}
WARM_UP = 200  # samples, to load what is loaded once, and to choose a memory format
WARM_UP_OF_NETWORKS = 16


class TimeUp(Exception):
    """A measurement takes longer than it may."""


def measure(task: dict) -> dict:
    """Run one task and give its figures."""
    prepare_process(task["threads"])
    clock = Clock(task["device"], task["threads"])
    problem = load(task)
    if task["kind"] == "pass":
        best, seconds = passes.best_pass(problem, clock)
        return passes.as_task(best) | {"candidates": seconds}
    if task["kind"] == "exactness":
        return exactness.exactness(problem, networks.NETWORKS[task["model"]].exact, task["truth_file"])
    if task["kind"] == "training":
        return _training(task, problem, clock)
    if task["kind"] == "truth":
        seconds, value = clock.timed(lambda: methods.truth(problem))
        return {"seconds": seconds, "value": value}
    return _compared(task, problem, clock)


def load(task: dict) -> problems.Problem:
    if task["model"] in networks.NETWORKS:
        return networks.load(task["model"], task["samples"], task["device"])
    return problems.load(task["model"], task["epoch"], task["samples"], task["data_dir"], task["device"])


def _compared(task: dict, problem: problems.Problem, clock: Clock) -> dict:
    """A method beside plain passes over the same samples, which are timed before and after it."""
    method = (methods.NORMS if task["kind"] == "norms" else methods.EIGENPAIRS)[task["method"]]
    how = Pass(**task["pass"])
    plain = passes.in_format(problem, how.channels_last)
    with _limited(task["limit"], clock):
        problem = _in_best_format(task, problem, how, clock)
        passes.one_pass(_first(plain), how.batch_size)
        pass_seconds, seconds = [clock.seconds(lambda: passes.one_pass(plain, how.batch_size))], []
    with _Peak(problem.images.device) as peak:
        try:
            with _limited(task["limit"], clock):
                for _ in range(task.get("repeats", 1)):
                    taken, value = clock.timed(lambda: method(problem))
                    seconds.append(taken)
                    pass_seconds.append(clock.seconds(lambda: passes.one_pass(plain, how.batch_size)))
        except TimeUp:
            if not seconds:
                return {"fault": f"> {task['limit']} s", "pass_seconds": pass_seconds[0]}
    figures = {"seconds": float(np.median(seconds)), "pass_seconds": float(np.median(pass_seconds))}
    figures |= {"repeats": len(seconds), "peak_gib": peak.bytes / 2**30}
    figures["parameters"] = sum(p.numel() for p in problem.model.parameters())
    if task["kind"] == "eigenpairs":
        return figures | {"value": float(value)}
    return figures | {"value": float(np.median(value))} | _error(value, task.get("truth_file"))


def _in_best_format(task: dict, problem: problems.Problem, how: Pass, clock: Clock) -> problems.Problem:
    """The problem in the memory format in which the method is fastest on a few samples, which warms it up.

    What takes dozens of plain passes goes in the format of the best pass, untried.
    """
    method = (methods.NORMS if task["kind"] == "norms" else methods.EIGENPAIRS)[task["method"]]
    own = task["kind"] == "norms" or task["method"].startswith("fishertail")
    if task["model"] in networks.NETWORKS and not own:
        return passes.in_format(problem, how.channels_last)
    found, fault = {}, None
    count = WARM_UP_OF_NETWORKS if task["model"] in networks.NETWORKS else WARM_UP
    for last in passes.formats(problem):
        formatted = passes.in_format(problem, last)
        small = _first(formatted, count)
        try:
            method(small)
            found[last] = clock.seconds(lambda small=small: method(small)), formatted
        except TimeUp:
            raise
        except Exception as error:
            fault = error
    if not found:
        raise fault
    return min(found.values(), key=lambda pair: pair[0])[1]


def _first(problem: problems.Problem, count: int = WARM_UP) -> problems.Problem:
    return replace(problem, images=problem.images[:count], labels=problem.labels[:count])


def _error(norms: np.ndarray, truth_file: str | None) -> dict:
    """The largest relative error of the norms of those samples whose truth is known."""
    if truth_file is None or not Path(truth_file).exists():
        return {}
    truth = np.load(truth_file)
    return {"error": float(np.abs(norms[truth["index"]] / truth["norms"] - 1).max())}


@contextmanager
def _limited(seconds: float, clock: Clock) -> Iterator[None]:
    """Raise TimeUp in what takes longer by this clock."""

    def end(*_):
        raise TimeUp(f"> {seconds} s")

    timer, ends = (signal.ITIMER_PROF, signal.SIGPROF) if clock.of_cpu else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(ends, end)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(ends, before)


def _training(task: dict, problem: problems.Problem, clock: Clock) -> dict:
    loop, rate = loops.LOOPS[task["method"]], RATES[problems.base(task["model"])]
    if task["method"] != "DataLoader loop":
        problem = passes.in_format(problem, channels_last=True)
    loop(_first(problem), task["batch_size"], rate)
    return {"seconds": clock.seconds(lambda: loop(problem, task["batch_size"], rate))}


class _Peak:
    """The largest memory in use while it is open, beyond that at its start: of the GPU, or of the process."""

    def __init__(self, device: torch.device):
        self._cuda, self._process, self.bytes = device.type == "cuda", psutil.Process(), 0

    def __enter__(self):
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is freed and kept would hide what is needed
        self._start, self._stop = self._process.memory_info().rss, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.05):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._start)

    def __exit__(self, *_):
        if self._cuda:
            self.bytes = torch.cuda.max_memory_allocated() - self._start
            return
        self._stop.set()
        self._thread.join()


def main() -> None:
    """Print the figures of the task on the command line, or in a word why there are none."""
    try:
        figures = measure(json.loads(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        said = str(error).strip().splitlines() or [""]
        figures = {"fault": f"{type(error).__name__}: {said[0]}"[:200] if not isinstance(error, TimeUp) else str(error)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
