"""fishertail beside its peers: `make bench`, or python -m benchmarks.run --help.

Every measurement runs in a process of its own, one after the other, in rounds over all methods, and is divided by the
best plain passes before and after it in the same process. What is written to benchmarks/results: peers.csv, peers.md
and plots.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil

from benchmarks import methods, problems, report
from benchmarks.loops import LOOPS

RESULTS = Path("benchmarks/results")
EPOCHS = {"fc": [1, 5, 20], "conv": [1, 10, 20]}
PEERS_EPOCH = {"fc": 5, "conv": 10}  # on which all methods are compared
SAMPLES = {"fc": [1000, 10_000, None], "conv": [1000, 5000, None]}  # None: all
TRUTH_SAMPLES = {"fc": 10_000, "conv": 1000}  # at most, for eigenvalues in float64
EVERYTHING = "fishertail: everything"
LAST_LAYER = "fishertail: last hidden layer"
BATCH_SIZES = [16, 256]
LONGEST = 3  # times the limit: a process with all that it does besides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-dir", default="data", help="where MNIST and CIFAR-10 lie, or are downloaded to")
    parser.add_argument("--models", nargs="+", default=["fc", "conv"], choices=["fc", "conv"])
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each; the median counts")
    parser.add_argument("--limit", type=int, default=300, help="seconds, beyond which a measurement is given up")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    options = parser.parse_args()
    for model in options.models:
        problems.train(model, EPOCHS[model], options.data_dir)
    for model in networks_of_other_widths(options.models):
        problems.train(model, [problems.WIDTHS_EPOCH], options.data_dir)
    rows, units = [], {}
    for _ in range(options.rounds):
        for task in tasks(options.models):
            problem = {key: task[key] for key in ("model", "epoch", "samples")}
            unit = task["model"], task["samples"]
            if unit not in units:
                rows.append(problem | {"kind": "pass", "method": "plain"})
                rows[-1] |= run(rows[-1], options)
                units[unit] = {"pass": rows[-1]["pass"]}
                print(json.dumps(rows[-1]), flush=True)
            rows.append(task | units[unit])
            rows[-1] |= run(rows[-1], options)
            print(json.dumps(rows[-1]), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    report.write(pd.DataFrame(rows), RESULTS, options.device, options.threads)


def tasks(models: list[str]):
    """All measurements of a round, those of one problem side by side.

    On all samples of conv, where a pass takes most of a minute, fishertail is alone: its peers would take hours.
    """
    for model in models:
        for samples in SAMPLES[model]:
            problem = {"model": model, "epoch": PEERS_EPOCH[model], "samples": samples}
            alone = model == "conv" and samples is None
            norms = ["fishertail"] if alone else _able(methods.NORMS, samples)
            eigenpairs = [EVERYTHING, LAST_LAYER] if alone else _able(methods.EIGENPAIRS, samples)
            yield from (problem | {"kind": "norms", "method": method} for method in norms)
            if samples is not None and samples <= TRUTH_SAMPLES[model]:
                yield problem | {"kind": "truth", "method": "float64 Lanczos to 1e-10"}
            yield from (problem | {"kind": "eigenpairs", "method": method} for method in eigenpairs)
        for epoch in set(EPOCHS[model]) - {PEERS_EPOCH[model]}:
            problem = {"model": model, "epoch": epoch, "samples": None, "kind": "eigenpairs"}
            chosen = [EVERYTHING] if model == "conv" else _of_fishertail()
            yield from (problem | {"method": method} for method in chosen)
        for batch_size in BATCH_SIZES:
            problem = {"model": model, "epoch": 1, "samples": 10_000, "batch_size": batch_size}
            yield from (problem | {"kind": "training", "method": method} for method in LOOPS)
    for model in networks_of_other_widths(models):
        problem = {"model": model, "epoch": problems.WIDTHS_EPOCH, "samples": problems.WIDTHS_SAMPLES}
        norms = _able(methods.NORMS, problems.WIDTHS_SAMPLES)
        eigenpairs = [
            m
            for m in _able(methods.EIGENPAIRS, problems.WIDTHS_SAMPLES)
            if m == EVERYTHING or m not in _of_fishertail()
        ]
        yield from (problem | {"kind": "norms", "method": method} for method in norms)
        yield from (problem | {"kind": "eigenpairs", "method": method} for method in eigenpairs)


def networks_of_other_widths(models: list[str]) -> list[str]:
    return [f"fc{width}" for width in problems.WIDTHS] if "fc" in models else []


def run(task: dict, options: argparse.Namespace) -> dict:
    """The figures of one measurement, or why there are none."""
    full = task | {"device": options.device, "threads": options.threads, "limit": options.limit}
    full |= {"data_dir": str(getattr(options, "data_dir", ""))}
    command = [sys.executable, "-m", "benchmarks.measure", json.dumps(full)]
    try:  # what a process loads and warms up counts here, and its repetitions
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST * options.limit)
    except subprocess.TimeoutExpired:
        return {"fault": f"> {LONGEST * options.limit} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"fault": "out of memory" if done.returncode == -9 else lines[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def _able(all_methods: dict, samples: int | None) -> list[str]:
    """Those that can treat so many samples at all."""
    count = float("inf") if samples is None else samples
    return [name for name in all_methods if count <= methods.MOST_SAMPLES.get(name, float("inf"))]


def _of_fishertail() -> list[str]:
    return [name for name in methods.EIGENPAIRS if name.startswith("fishertail")]


if __name__ == "__main__":
    main()
