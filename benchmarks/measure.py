"""One measurement, in a process of its own: what it costs in passes, in memory, and how exact it is.

python -m benchmarks.measure '{"kind": "norms", "method": "fishertail", ...}' prints a line of JSON.
"""

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch

from benchmarks import loops, methods, problems
from fishertail.parallel import prepare_process

RATES = {"fc": 0.05, "conv": 0.001}
WARM_UP = 200  # samples, to load what is loaded once


def measure(task: dict) -> dict:
    """Run one task and give its figures."""
    prepare_process(task["threads"])
    where = (task["data_dir"], task["device"])
    problem = problems.load(task["model"], task["epoch"], task["samples"], *where)
    small = problems.load(task["model"], task["epoch"], min(WARM_UP, len(problem.labels)), *where)
    if task["kind"] == "training":
        return _training(task, problem, small)
    if task["kind"] == "truth":
        seconds, value = _timed(lambda: methods.truth(problem))
        return {"seconds": seconds, "value": value}
    method = (methods.NORMS if task["kind"] == "norms" else methods.EIGENPAIRS)[task["method"]]
    small.one_pass()
    method(small)
    before, _ = _timed(problem.one_pass)
    with _Peak(problem.images.device) as peak:
        seconds, value = _timed(lambda: method(problem))
    after, _ = _timed(problem.one_pass)
    figures = {"seconds": seconds, "pass_seconds": (before + after) / 2, "peak_gib": peak.bytes / 2**30}
    figures["parameters"] = sum(p.numel() for p in problem.model.parameters())
    if task["kind"] == "norms":
        np.save(task["norms_file"], value)
        return figures
    return figures | {"value": float(value)}


def _training(task: dict, problem: problems.Problem, small: problems.Problem) -> dict:
    loop, rate = loops.LOOPS[task["method"]], RATES[problems.base(task["model"])]
    if task["method"] != "DataLoader loop":
        problem, small = loops.in_fastest_format(problem), loops.in_fastest_format(small)
    loop(small, task["batch_size"], rate)
    return {"seconds": _timed(lambda: loop(problem, task["batch_size"], rate))[0]}


def _timed(function: Callable) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


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


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
