"""What a run will cost before it starts: jobs, GPU-hours and node-hours by rule.

python -m fishertail.cost profiles/tsubame [more arguments of snakemake]
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RESOURCES_VARIABLE = "FISHERTAIL_RESOURCES"  # where the Snakefile is to write what its rules ask for
BENCHMARKS = Path("benchmarks")
# the run of a benchmark file, and of a folder of results
_RUN = re.compile(r"(?P<network>\w+-\w+)[-/]bs(?P<batch_size>\d+)[-/]seed\d+([-/]epochs(?P<first>\d+)-(?P<last>\d+))?")


@dataclass(frozen=True)
class RuleCost:
    """The pending jobs of a rule."""

    rule: str
    jobs: int
    gpus: int  # of each
    hours: float  # of all jobs together
    measured: int  # jobs whose time was measured; for the others it is what the rule allows


def pending(summary: str) -> dict[str, set[str]]:
    """The jobs that would run, by rule, each by the folder of its results, out of `snakemake --summary`."""
    jobs: dict[str, set[str]] = defaultdict(set)
    for line in summary.splitlines():
        columns = line.split("\t")
        if len(columns) >= 6 and columns[-1].strip() == "update pending":
            jobs[columns[2]].add(str(Path(columns[0]).parent))
    return dict(jobs)


def measured_seconds(benchmarks: Path, rule: str) -> dict[str, float]:
    """The median seconds an epoch of a rule's jobs, by network and batch size, and by network alone."""
    times: dict[str, list[float]] = defaultdict(list)
    for path in benchmarks.rglob(f"{rule}/*.tsv"):
        run = _RUN.fullmatch(path.stem)
        lines = path.read_text().splitlines()
        if run is None or len(lines) < 2:
            continue
        seconds = float(lines[1].split("\t")[lines[0].split("\t").index("s")]) / _epochs(run)
        for name in (f"{run['network']}-bs{run['batch_size']}", run["network"]):
            times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def costs(jobs: dict[str, Iterable[str]], asked: dict[str, dict], benchmarks: Path = BENCHMARKS) -> list[RuleCost]:
    """The cost of each rule that needs a GPU.

    Args:
        jobs: as of `pending`.
        asked: gpus and runtime (minutes) of each rule.
    """
    found = []
    for rule, folders in jobs.items():
        if not asked.get(rule, {}).get("gpus"):
            continue
        known, hours, measured = measured_seconds(benchmarks, rule), 0.0, 0
        for folder in folders:
            run = _RUN.search(folder)
            name = f"{run['network']}-bs{run['batch_size']}" if run else ""
            seconds = known.get(name, known.get(run["network"]) if run else None)
            measured += seconds is not None
            hours += asked[rule]["runtime"] / 60 if seconds is None else seconds * _epochs(run) / 3600
        found.append(RuleCost(rule, len(set(folders)), asked[rule]["gpus"], hours, measured))
    return found


def table(found: list[RuleCost], node_gpus: int) -> str:
    """A line a rule, and their sums."""
    lines = [f"{'rule':24}{'jobs':>6}{'GPUs':>6}{'GPU-hours':>12}{'node-hours':>12}  times"]
    totals = [0.0, 0.0]
    for cost in found:
        gpu_hours = cost.hours * cost.gpus
        node_hours = cost.hours * (cost.gpus / node_gpus)
        totals = [totals[0] + gpu_hours, totals[1] + node_hours]
        source = "measured" if cost.measured == cost.jobs else f"{cost.measured} measured, others at most"
        source = source if cost.measured else "at most, from the rule's runtime"
        lines.append(f"{cost.rule:24}{cost.jobs:6}{cost.gpus:6}{gpu_hours:12.1f}{node_hours:12.1f}  {source}")
    lines.append(f"{'all':24}{sum(cost.jobs for cost in found):6}{'':6}{totals[0]:12.1f}{totals[1]:12.1f}")
    return "\n".join(lines)


def main() -> None:
    profile, *others = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        resources = Path(folder) / "resources.json"
        command = [sys.executable, "-m", "snakemake", "--profile", profile, "--summary", *others]
        environment = os.environ | {RESOURCES_VARIABLE: str(resources)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(done.stderr)
        asked = json.loads(resources.read_text())
    print(table(costs(pending(done.stdout), asked), node_gpus(Path(profile))))


def node_gpus(profile: Path) -> int:
    """GPUs of a node, as the settings of the profile's site have it; 4 where they do not say."""
    import yaml

    options = yaml.safe_load((profile / "config.yaml").read_text())
    site = profile / options.get("queue-site", "site.yaml")
    return (yaml.safe_load(site.read_text()) if site.exists() else {}).get("node_gpus", 4)


def _epochs(run: re.Match) -> int:
    """Of a job; one where its name has none."""
    return int(run["last"]) - int(run["first"]) + 1 if run["first"] else 1


if __name__ == "__main__":
    main()
