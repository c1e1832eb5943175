"""Measured times of jobs, and the rates that follow from them: seconds for each epoch trained or checkpoint measured.

Read while the Snakefile is parsed, so that nothing heavy is imported.
"""

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fishertail.results.run import RESUMED

# Seconds that a job takes before it computes anything: the median of the six jobs of docs/reproduction that found
# everything measured already (2.5 to 5.9 s).
START = 3.1
_JOB = re.compile(r"(\w+)-(\w+)-bs(\d+)-seed\d+(?:-(epochs\d+-\d+))?")


@dataclass(frozen=True)
class MeasuredJob:
    """A job that ran to its end.

    Attributes:
        rule: the name of its rule.
        dataset, model, batch_size: its network, and the batch size of its training.
        block: the folder of its block of epochs, None for a job of a whole run.
        seconds: from its start to its end.
        units: epochs trained or checkpoints measured; None if that follows from the configuration alone.
    """

    rule: str
    dataset: str
    model: str
    batch_size: int
    block: str | None
    seconds: float
    units: float | None = None


def benchmarks(folder: Path, logs: Path) -> Iterator[MeasuredJob]:
    """The jobs whose times Snakemake kept, in files FOLDER/RULE/JOB.tsv; other files are ignored.

    So are those of jobs that were killed and went on, since a time is that of the last start alone.

    Args:
        folder: of the benchmarks.
        logs: the folder of the logs, LOGS/RULE/JOB.log.
    """
    for path in sorted(folder.glob("*/*.tsv")):
        if resumed(logs / path.parent.name / f"{path.stem}.log"):
            continue
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                job = _job(path.parent.name, path.stem, row.get("s"), None)
                if job is not None:
                    yield job


def resumed(log: Path) -> bool:
    """Whether a log says that its job went on after a kill, so that its time is that of the last start alone."""
    return log.is_file() and RESUMED in log.read_text(encoding="utf-8", errors="replace")


def kept(path: Path) -> Iterator[MeasuredJob]:
    """The jobs of a table with the columns rule, job, seconds and units; none where there is no such file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            job = _job(row["rule"], row["job"], row["seconds"], row.get("units"))
            if job is not None:
                yield job


def _job(rule: str, name: str, seconds: str | None, units: str | None) -> MeasuredJob | None:
    found, time = _JOB.fullmatch(name), _number(seconds)
    if found is None or time is None:
        return None
    dataset, model, batch_size, block = found.groups()
    return MeasuredJob(rule, dataset, model, int(batch_size), block, time, _number(units))


def _number(text: str | None) -> float | None:
    """None for what Snakemake writes where it could not measure."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value >= 0 else None


class Times:
    """Measured times, by rule, network and batch size."""

    def __init__(self, jobs: Iterable[tuple[MeasuredJob, float]], passes: Mapping[str, float]) -> None:
        """Index jobs.

        Args:
            jobs: each with its units; those without any are left out.
            passes: forward and backward passes over the training data in one unit of each rule.
        """
        self._passes = passes
        self._times: dict[tuple[str, str, str, int | None], list[tuple[float, float]]] = defaultdict(list)
        self._networks: dict[str, set[str]] = defaultdict(set)  # data sets by model
        for job, units in jobs:
            if units > 0:
                self._networks[job.model].add(job.dataset)
                for batch_size in (job.batch_size, None):
                    key = (job.rule, job.dataset, job.model, batch_size)
                    self._times[key].append((max(job.seconds - START, 0.0), units))
        self._rates: dict[tuple[str, str, str, int | None], float | None] = {}

    def rate(self, rules: Sequence[str], dataset: str, model: str, batch_size: int) -> float | None:
        """Seconds per unit, by the nearest measured jobs of this network; None if there are none.

        Nearest are jobs of the rule at this batch size, then at any; then the network's other rules, by their passes.

        Args:
            rules: rules that do the same, the wanted one first.
        """
        for rule in rules:
            for at in (batch_size, None):
                if (found := self._measured(rule, dataset, model, at)) is not None:
                    return found
        for rule in rules:
            for at in (batch_size, None):
                if rule in self._passes and (one := self._of_a_pass(dataset, model, at)) is not None:
                    return self._passes[rule] * one
        return None

    def other_datasets(self, model: str, dataset: str) -> list[str]:
        """The other data sets on which a model was measured."""
        return sorted(self._networks[model] - {dataset})

    def _measured(self, rule: str, dataset: str, model: str, batch_size: int | None) -> float | None:
        """The rate of all jobs together: a sum of estimates is then near the sum of the jobs' times."""
        key = (rule, dataset, model, batch_size)
        if key not in self._rates:
            times = self._times.get(key, [])
            units = sum(units for _, units in times)
            self._rates[key] = sum(seconds for seconds, _ in times) / units if units else None
        return self._rates[key]

    def _of_a_pass(self, dataset: str, model: str, batch_size: int | None) -> float | None:
        rates = {rule: self._measured(rule, dataset, model, batch_size) for rule in self._passes}
        found = [rate / self._passes[rule] for rule, rate in rates.items() if rate is not None and self._passes[rule]]
        return statistics.median(found) if found else None
