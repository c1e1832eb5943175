"""What the pending jobs will cost: GPU-hours, node-hours and points by rule, their duration, and the basis of this.

python -m fishertail.grid.cost profiles/tsubame [more arguments of snakemake]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fishertail.errors import ConfigError
from fishertail.grid.estimate import DEFAULT, KEPT, OWN, TRAIN, UNKNOWN, Estimator
from fishertail.grid.place import Place
from fishertail.grid.plan import METRICS
from fishertail.grid.wallclock import Key, Timed, longest_chain, makespan

JOBS_VARIABLE = "FISHERTAIL_JOBS"  # where the Snakefile is to write the jobs of its plan
_CPU = "a CPU"


@dataclass(frozen=True)
class Job:
    """A job that computes, whether or not it is pending.

    Attributes:
        rule, folder: which job it is: its rule, and where its results go.
        needs: jobs whose results it takes, by rule and folder.
        seconds: its expected time.
        basis: what that rests on (fishertail.grid.estimate).
        gpus, threads, minutes: what its first attempt asks for.
    """

    rule: str
    folder: str
    needs: Sequence[Key]
    seconds: float
    basis: str
    gpus: int
    threads: int
    minutes: int

    @property
    def key(self) -> Key:
        """Which job it is."""
        return self.rule, self.folder


def write_jobs(path: Path, estimator: Estimator, asked_for: Callable[[str, Any], dict[str, int]], results: str) -> None:
    """Write the jobs of a plan for `make cost`, which runs in another process.

    Args:
        asked_for: called with a rule and the wildcards of a job; returns the gpus, threads and minutes it asks for.
        results: the folder of results.
    """
    jobs, results = [], str(Path(results))  # as Snakemake's summary, read by `pending`, has paths
    for each in estimator.jobs():
        needs = [(rule, folder.replace("<results>", results)) for rule, folder in each.needs]
        estimate, asked = estimator.of(each.rule, each.wildcards), asked_for(each.rule, each.wildcards)
        folder = each.folder.replace("<results>", results)
        jobs.append(asdict(Job(each.rule, folder, needs, estimate.seconds, estimate.basis, **asked)))
    path.write_text(json.dumps(jobs), encoding="utf-8")


def read_jobs(path: Path) -> list[Job]:
    """What `write_jobs` wrote."""
    return [
        Job(**each | {"needs": [tuple(need) for need in each["needs"]]})
        for each in json.loads(path.read_text(encoding="utf-8"))
    ]


def pending(summary: str) -> set[Key]:
    """The jobs that would run, by rule and folder, from `snakemake --summary`."""
    rows = (line.split("\t") for line in summary.splitlines())
    updates = [row for row in rows if len(row) >= 6 and row[-1].strip() == "update pending"]
    return {(row[2], str(Path(row[0]).parent)) for row in updates}


def costs(job: Job, place: Place) -> dict[str, tuple[float, float, float]]:
    """What a job costs at a place, in each unit that the place has.

    Returns:
        by unit: the expected cost, that of a first attempt which takes all the time it asks for, and that of every
        attempt doing so.
    """
    attempts = [min(job.minutes * attempt, place.limit) * 60 for attempt in range(1, place.retries + 2)]
    expected = min(job.seconds, attempts[-1])
    hours = expected / 3600, attempts[0] / 3600, sum(attempts) / 3600
    if place.node_gpus is None:
        return {"hours": hours}
    first, second, third = hours
    found = {
        name: (first * share, second * share, third * share)
        for name, share in (("GPU-hours", job.gpus), ("node-hours", job.gpus / place.node_gpus))
    }
    if place.charge is not None:
        charge = place.charge.points
        most = sum(charge(job.gpus, seconds, seconds) for seconds in attempts)
        found["points"] = charge(job.gpus, expected, attempts[0]), charge(job.gpus, attempts[0], attempts[0]), most
    return found


def table(jobs: Sequence[Job], place: Place) -> str:
    """One row per rule, and their sums."""
    units = list(costs(jobs[0], place))
    above = ["", "", *(cell for unit in units for cell in (unit, "", ""))]
    titles = ["rule", "jobs", *("expected", "asked for", "at most") * len(units)]
    rows = []
    for name in [*dict.fromkeys(job.rule for job in jobs), "all"]:
        chosen = [costs(job, place) for job in jobs if name in ("all", job.rule)]
        sums = [sum(each[unit][i] for each in chosen) for unit in units for i in range(3)]
        rows.append([name, f"{len(chosen):,}", *(_short(value) for value in sums)])
    widths = [max(map(len, column)) for column in zip(above, titles, *rows, strict=True)]
    lines = [_aligned(row, widths) for row in (above, titles, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))


def _short(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2f}"


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}" if number == 1 else f"{number:,} {of}s"


def duration(jobs: Sequence[Job], place: Place) -> list[str]:
    """How long it all takes, in sentences: the longest chain, and all jobs where only so many run at a time."""
    timed = {job.key: Timed(job.seconds, job.needs, job.threads if place.jobs is None else 1) for job in jobs}
    chain = longest_chain(timed)
    trained = sum(rule == TRAIN for rule, _ in chain)
    hours = sum(timed[key].seconds for key in chain) / 3600
    rule, folder = chain[-1]
    blocks, others = _count(trained, "block"), _count(len(chain) - trained, "job")
    lines = [
        f"The longest chain takes {_short(hours)} hours without waiting in the queue: {blocks} of epochs, one after "
        f"the other, then {others}, the last {rule} in {folder}."
    ]
    places, of = (place.jobs, "jobs") if place.jobs is not None else (place.cores, "cores")
    if places is not None:
        whole = makespan(timed, places) / 3600
        lines.append(f"With {places} {of} at a time, as the profile says, all jobs take {_short(whole)} hours.")
    return lines


def basis(jobs: Sequence[Job], place: Place, devices: Mapping[str, int]) -> list[str]:
    """What the estimate rests on, in sentences.

    Args:
        devices: on which the jobs of the user's benchmarks trained, with their number.
    """
    counts = Counter(job.basis for job in jobs)
    lines = []
    if counts[OWN]:
        where = ", ".join(f"{count} on {device}" for device, count in devices.items()) or "on unknown devices"
        lines.append(
            f"{_count(counts[OWN], 'job')} estimated from your own benchmarks (blocks of epochs trained: {where})."
        )
    if counts[KEPT]:
        lines.append(
            f"{_count(counts[KEPT], 'job')} estimated from the times of docs/reproduction, those of one CPU thread."
        )
    on_cpu = counts[KEPT] or any(device.startswith(_CPU) for device in devices)
    if place.node_gpus is not None and on_cpu:
        lines.append(
            "Jobs ask for GPUs here: times of a CPU are an upper bound where a GPU is faster. Let one seed run first; "
            "its benchmarks then take their place."
        )
    if counts[UNKNOWN]:
        lines.append(
            f"{_count(counts[UNKNOWN], 'job')} of networks without measured times, taken as {DEFAULT / 3600:g} hours "
            "each: run one of them first."
        )
    return lines


def trained_on(jobs: Sequence[Job]) -> Counter[str]:
    """The devices on which the blocks of epochs were trained whose metrics are there, and how many on each."""
    from fishertail.results.storage import read_provenance

    found: Counter[str] = Counter()
    for job in jobs:
        path = Path(job.folder) / METRICS
        if job.rule == TRAIN and path.is_file():
            found[_device(read_provenance(path).get("machine") or {})] += 1
    return found


def _device(machine: Mapping[str, Any]) -> str:
    """The device in a record of provenance, in words."""
    if machine.get("device") == "cpu":
        return f"{_CPU} ({machine.get('cpu')}, {_count(machine.get('threads') or 1, 'thread')})"
    return str(machine.get("gpu") or machine.get("device") or "a device without a name")


def report(jobs: Sequence[Job], summary: str, place: Place) -> str:
    """What `make cost` prints.

    Args:
        jobs: of the plan.
        summary: of `snakemake --summary`.
    """
    wanted = pending(summary)
    waiting = [job for job in jobs if job.key in wanted]
    if not waiting:
        return "No job that computes is pending."
    reserved = ", which is reserved when it is submitted" if place.charge is not None else ""
    tries = f"it is tried {place.retries + 1} times, and " if place.retries else ""
    lines = [
        table(waiting, place),
        "",
        f"Asked for: if the first attempt of each job takes all the time that it asks for{reserved}.",
        f"At most: if {tries}each attempt takes all the time that it asks for.",
        "",
    ]
    lines += duration(waiting, place)
    return "\n".join([*lines, "", *basis(waiting, place, trained_on(jobs))])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="What the pending jobs will cost, and how long they will take.")
    parser.add_argument("profile", help="a folder with config.yaml, such as profiles/tsubame")
    parser.add_argument("others", nargs=argparse.REMAINDER, metavar="...", help="more arguments of snakemake")
    options = parser.parse_args()
    try:
        place = Place.of(Path(options.profile), options.others)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.json"
        command = [sys.executable, "-m", "snakemake", "--profile", options.profile, "--summary", *options.others]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {JOBS_VARIABLE: str(path)})
        if done.returncode:
            sys.exit(done.stderr)
        jobs = read_jobs(path)
    try:
        print(report(jobs, done.stdout, place))
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
