"""What each job that computes is expected to take, from measured times of such jobs.

Nearest first: the user's own benchmarks of the network, then the times of docs/reproduction, then either of the same
model on another data set, scaled by the number of samples. For any other network a job is given `DEFAULT`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from fishertail.data import source
from fishertail.errors import DatasetError
from fishertail.grid import times
from fishertail.grid.plan import CHECKPOINTS, METRICS, RunPlan, Wildcards
from fishertail.grid.times import MeasuredJob, Times
from fishertail.measurements.measurement import Measurement
from fishertail.results.run import LANDMARKS, Block, Run
from fishertail.training.schedule import octaves, steps_per_epoch

TRAIN, AT_LANDMARKS = "train", "_at_landmarks"
OWN, KEPT, UNKNOWN = "own benchmarks", "docs/reproduction", "no measured times"
DEFAULT = 7200.0  # seconds of a job of a network that was never measured: an upper bound, to which no margin is added
SHORTEST = 5  # minutes that a job asks for at least: TSUBAME charges 300 s at least, and nodes differ in their start
LANDMARK_EPOCHS = 3  # lowest validation loss, twice its epoch, the last: those that no block has measured, at most
EVALUATION = 1 / 3  # of an epoch: a checkpoint inside it takes a forward pass, a third of forward and backward
_ANY_SAMPLES = 60_000  # of a data set that does not say how many it has


@dataclass(frozen=True)
class Estimate:
    """What a job is expected to take.

    Attributes:
        seconds: the time of its first attempt.
        basis: OWN, KEPT or UNKNOWN.
    """

    seconds: float
    basis: str

    def minutes(self, margin: float, attempt: int = 1) -> int:
        """The runtime to ask for: the expected time with its margin, and as much again at each further attempt."""
        wanted = self.seconds if self.basis == UNKNOWN else self.seconds * margin
        return max(SHORTEST, math.ceil(wanted / 60)) * attempt


@dataclass(frozen=True)
class PlannedJob:
    """A job that computes, whether or not its results are there already.

    Attributes:
        rule: the name of its rule.
        folder: the folder of its results; with the rule it identifies the job.
        wildcards: those of the rule.
        needs: the jobs whose results it takes, by rule and folder.
    """

    rule: str
    folder: str
    wildcards: SimpleNamespace
    needs: tuple[tuple[str, str], ...]


class Estimator:
    """The estimates of all jobs of a plan."""

    def __init__(
        self,
        plan: RunPlan,
        own: Iterable[MeasuredJob],
        kept: Iterable[MeasuredJob],
        workers: Callable[[str], int] = lambda rule: 1,
    ) -> None:
        """Read nothing yet.

        Args:
            own: the user's benchmarks (`times.benchmarks`), taken up at the first question.
            kept: the times of docs/reproduction (`times.kept`), likewise.
            workers: processes over which a job of a rule spreads its checkpoints, now as in the user's benchmarks.
        """
        self._plan, self._own, self._kept, self._workers = plan, own, kept, workers
        self._samples: dict[str, int | None] = {}
        self._measurements = {each.rule: each for each in plan.measurements.values() if each.scope == "gradients"}

    def of(self, rule: str, wildcards: Wildcards) -> Estimate:
        """The estimate of a job.

        Args:
            rule: its name: train, or that of a measurement of gradients, in a block or at the landmarks of a run.
            wildcards: of the rule.
        """
        run, block = self._plan.run_of(wildcards), getattr(wildcards, "block", None)
        return self.expected(rule, run, self.units(rule, run.dataset, run.batch_size, block))

    def expected(self, rule: str, run: Run, units: float) -> Estimate:
        """The estimate of a job of so many epochs or checkpoints."""
        rounds = self._rounds(rule, units)
        for rate_of in (self._rate, self._rate_elsewhere):
            for basis, measured in self._times.items():
                if (rate := rate_of(measured, rule, run)) is not None:
                    return Estimate(times.START + rate * rounds, basis)
        return Estimate(DEFAULT, UNKNOWN)

    def minutes(self, rule: str, wildcards: Wildcards, attempt: int = 1) -> int:
        """The resource `runtime` of a job."""
        return self.of(rule, wildcards).minutes(self._plan.config.machine.runtime_margin, attempt)

    def units(self, rule: str, dataset: str, batch_size: int, block: str | None) -> float:
        """Epochs that a job trains, or checkpoints that it measures, as the configuration has it.

        Args:
            block: the folder of its block of epochs, None for the landmarks of a run.

        Raises:
            DatasetError: there is no such data set.
        """
        per_epoch = steps_per_epoch(self._samples_of(dataset) or _ANY_SAMPLES, batch_size)
        if block is None:
            return LANDMARK_EPOCHS if self._left_for_landmarks(self._measurements[_base(rule)]) else 0
        at = Block.at(block)
        if rule == TRAIN:
            inside = octaves(per_epoch) if self._plan.config.octaves_in(at) else []
            evaluated = sum(at.first <= -(-step // per_epoch) <= at.last for step in inside)
            return at.last - at.first + 1 + EVALUATION * evaluated
        selection = self._plan.config.checkpoints_of(self._measurements[rule].name, at)
        return len(selection.steps(at, per_epoch))

    def jobs(self) -> list[PlannedJob]:
        """All jobs that compute, each after those that it needs."""
        found: list[PlannedJob] = []
        writers: dict[str, tuple[str, str]] = {}
        for rule, folder, wildcards, inputs, outputs in self._all():
            needed = [path.format(**vars(wildcards)) for path in inputs if path.startswith("<results>")]
            needs = dict.fromkeys(writers[path] for path in needed if path in writers)
            found.append(PlannedJob(rule, folder, wildcards, tuple(needs)))
            writers |= {f"{folder}/{name}": (rule, folder) for name in outputs}
        return found

    def _all(self) -> Iterator[tuple[str, str, SimpleNamespace, list[str], list[str]]]:
        """Rule, folder, wildcards, inputs and names of outputs of each job."""
        plan = self._plan
        for run in plan.config.runs:
            blocks = plan.new_blocks(run)
            for block in blocks:
                folder, wildcards = f"<results>/runs/{run.path}/{block.path}", _wildcards(run, block)
                previous = plan.previous_weights(wildcards)
                yield TRAIN, folder, wildcards, previous, [CHECKPOINTS, METRICS]
                for rule, each in self._measurements.items():
                    inputs = _flat(plan.block_inputs(each)(wildcards).values())
                    yield rule, folder, wildcards, inputs, [table.file for table in each.tables]
            for rule, each in self._measurements.items() if blocks else ():
                folder, wildcards = f"<results>/runs/{run.path}/{LANDMARKS}", _wildcards(run)
                inputs = _flat(plan.landmark_inputs(each)(wildcards).values())
                yield f"{rule}{AT_LANDMARKS}", folder, wildcards, inputs, [table.file for table in each.tables]

    @cached_property
    def _times(self) -> dict[str, Times]:
        """Measured times by basis, nearest first."""
        passes = {TRAIN: 1.0} | {rule: each.passes for rule, each in self._measurements.items() if each.passes}
        own = ((job, self._rounds(job.rule, units)) for job, units in self._counted(self._own))
        return {OWN: Times(own, passes), KEPT: Times(self._counted(self._kept), passes)}

    def _counted(self, jobs: Iterable[MeasuredJob]) -> Iterator[tuple[MeasuredJob, float]]:
        """Measured jobs with their units; without those of rules or data sets that no longer exist."""
        for job in jobs:
            known = job.block is not None if job.rule == TRAIN else _base(job.rule) in self._measurements
            try:
                if job.units is not None:
                    yield job, job.units
                elif known:
                    yield job, self.units(job.rule, job.dataset, job.batch_size, job.block)
            except DatasetError:
                continue

    def _rounds(self, rule: str, units: float) -> float:
        """How many checkpoints a process of a job measures, one after the other."""
        return units if rule == TRAIN else math.ceil(units / max(1, self._workers(rule)))

    def _rate(self, measured: Times, rule: str, run: Run) -> float | None:
        """Seconds per unit of this network; for landmarks those of blocks count if nothing else was measured."""
        rules = list(dict.fromkeys([rule, _base(rule)]))
        return measured.rate(rules, run.dataset, run.model, run.batch_size)

    def _rate_elsewhere(self, measured: Times, rule: str, run: Run) -> float | None:
        """Seconds per unit of the same model on another data set, in proportion to the number of samples."""
        for dataset in measured.other_datasets(run.model, run.dataset):
            samples, there = self._samples_of(run.dataset), self._samples_of(dataset)
            rate = self._rate(measured, rule, Run(dataset, run.model, run.batch_size, run.seed))
            if samples and there and rate is not None:
                return rate * samples / there
        return None

    def _samples_of(self, dataset: str) -> int | None:
        if dataset not in self._samples:
            self._samples[dataset] = source.training_samples(dataset, self._plan.config.machine.data_dir)
        return self._samples[dataset]

    def _left_for_landmarks(self, measurement: Measurement) -> bool:
        """Whether there are checkpoints that no block has measured."""
        return getattr(self._plan.config.options(measurement.name), "checkpoints", None) != "all"


def _base(rule: str) -> str:
    """The rule that measures the same in blocks."""
    return rule.removesuffix(AT_LANDMARKS)


def _wildcards(run: Run, block: Block | None = None) -> SimpleNamespace:
    """As Snakemake has them: all are strings."""
    named = {"dataset": run.dataset, "model": run.model, "batch_size": str(run.batch_size), "seed": str(run.seed)}
    return SimpleNamespace(**named | ({} if block is None else {"block": block.path}))


def _flat(values: Iterable[Any]) -> list[str]:
    return [path for value in values for path in ([value] if isinstance(value, str) else value)]
