"""fishertail beside its peers on today's networks: `make bench-networks`, or python -m benchmarks.run_networks --help.

Every measurement runs in a process of its own, and is kept as a line of networks.jsonl at once, so that an interrupted
benchmark goes on with --resume. What is written: networks.csv, networks.md, and the chart with the table behind it.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks import chart, networks_report
from benchmarks.networks import NETWORKS
from benchmarks.run import EVERYTHING, RESULTS, run

NORMS = [
    "fishertail",
    "Opacus ghost norms",
    "Opacus GradSampleModule",
    "BackPACK BatchL2Grad",
    "torch.func vmap(grad)",
]
EIGENPAIRS = [EVERYTHING, "curvlinops + eigsh"]
KEYS = ["model", "samples", "kind", "method", "device", "threads"]  # of a measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", default=[*NORMS, *EIGENPAIRS], choices=[*NORMS, *EIGENPAIRS])
    parser.add_argument("--samples", type=int, help="instead of each network's own number, to try things out")
    parser.add_argument("--threads", type=int, default=1, help="with one, CPU seconds count; else those of the wall")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement in its process; the median counts")
    parser.add_argument("--limit", type=int, default=200, help="seconds, beyond which a measurement is given up")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no measurement after so many")
    parser.add_argument("--resume", action="store_true", help="keep what networks.jsonl has already")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is measured")
    parser.add_argument("--chart", type=Path, default=Path("docs/images/networks.csv"), help="where chart and table go")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    log, start = options.results / "networks.jsonl", time.monotonic()
    if not options.resume:
        log.unlink(missing_ok=True)
    for task in tasks(options):
        if time.monotonic() - start > options.seconds:
            print("time is up: go on with --resume")
            break
        _measure(task, log, options)
    rows = pd.DataFrame(_rows(log))
    table = networks_report.write(rows, options.results, options.device, options.threads)
    chart.write(table, options.chart)


def tasks(options: argparse.Namespace) -> Iterator[dict]:
    """All measurements, the pass and the truth of a network before what is compared with them."""
    for name in options.networks:
        samples = min(options.samples or NETWORKS[name].samples, NETWORKS[name].samples)
        truth = options.results / f"truth-{name}-{samples}-{options.device.replace(':', '')}.npz"
        problem = {"model": name, "samples": samples, "truth_file": str(truth)}
        problem |= {"device": options.device, "threads": options.threads, "repeats": options.repeats}
        yield problem | {"kind": "pass", "method": "plain"}
        yield problem | {"kind": "exactness", "method": "fishertail"}
        for kind, known in (("norms", NORMS), ("eigenpairs", EIGENPAIRS)):
            yield from (problem | {"kind": kind, "method": method} for method in known if method in options.methods)


def _measure(task: dict, log: Path, options: argparse.Namespace) -> None:
    """Run a task and note its figures, unless they are noted."""
    known = {_key(row): row for row in _rows(log)}
    if _key(task) in known:
        return
    if task["kind"] in ("norms", "eigenpairs"):
        unit = known[_key(task | {"kind": "pass", "method": "plain"})]
        if "pass" not in unit:
            return  # it says itself why
        task = task | {"pass": unit["pass"]}
    row = task | run(task, options)
    del row["truth_file"]
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def _rows(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _key(row: dict) -> tuple:
    return tuple(row[key] for key in KEYS)


if __name__ == "__main__":
    main()
