"""The measurements that a call asks for: with those that they need, their options, and what cannot be measured."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from fishertail.errors import FishertailError
from fishertail.execution import measuring, options
from fishertail.execution.measuring import Tables
from fishertail.gradients.losses import loss_of
from fishertail.measurements.measurement import MeasuredCheckpoint, Measurement, Scope, measurements, options_given
from fishertail.results.schema import EPOCH, STEP, Column, Table
from fishertail.statistics.minimum import lowest_validation_loss
from fishertail.training.checkpoints import Weights
from fishertail.training.metrics import METRICS

CHECKPOINT = "checkpoint"  # in the column `measurement` of failures, where nothing could be measured
DEFAULT = ("norms", "spectrum", "outliers")
FAILURES = Table(
    name="failures",
    suffix="csv",
    meaning="what could not be measured, and why",
    columns=(
        STEP,
        EPOCH,
        Column(
            "measurement",
            "its name; `checkpoint` where none was possible; `files` where none could be written; `scalars` where a "
            "number that the caller gave is none",
        ),
        Column("reason", "the error in one line"),
    ),
    keys=("step", "measurement"),
)


@dataclass
class Failures:
    """What could not be measured, by step and measurement."""

    rows: list[tuple[int, str, str]] = field(default_factory=list)  # step, measurement, reason
    first: Exception | None = None

    def add(self, measurement: str, step: int, error: Exception) -> None:
        """Note an error; what its frames hold is freed, since it may be lack of memory."""
        traceback.clear_frames(error.__traceback__)
        self.first = self.first or error
        self.rows.append((step, measurement, reason(error)))

    def steps(self, measurement: str) -> set[int]:
        """The steps at which a measurement failed."""
        return {step for step, name, _ in self.rows if name == measurement}

    def table(self, per_epoch: float) -> pd.DataFrame:
        """The rows of `FAILURES`."""
        ordered = sorted(self.rows, key=lambda row: row[0])
        rows = [(step, step / per_epoch, measurement, why) for step, measurement, why in ordered]
        return pd.DataFrame(rows, columns=FAILURES.names)


@dataclass(frozen=True)
class Chosen:
    """Measurements, each after those that it needs, and the options of each by name."""

    measurements: tuple[Measurement, ...]
    options: Mapping[str, Mapping[str, Any]]

    def of_gradients(
        self,
        weights: Mapping[int, Weights],
        failures: Failures,
        *,
        model: nn.Module,
        samples: tuple[Any, Any],
        per_epoch: float,
        device: str,
        memory_budget: float | None,
        loss: Callable[..., torch.Tensor] | None,
        learning_rate: float,
        output: str | int | None,
    ) -> Tables:
        """What measurements of gradients give. What fails at a step, and what needs it there, is added to `failures`.

        Args:
            weights: by SGD step.
            model, samples, per_epoch, device, memory_budget, loss, learning_rate, output: see `measuring.by_gradients`.
        """
        found: Tables = {}
        for each in self.of_scope("gradients"):
            _pass_on(each, failures)
            failed_at = failures.steps(each.name)
            found |= measuring.by_gradients(
                each,
                self.options[each.name],
                {step: state for step, state in weights.items() if step not in failed_at},
                model=model,
                samples=samples,
                tables=_needed(each, found),
                per_epoch=per_epoch,
                device=device,
                memory_budget=memory_budget,
                loss=loss,
                learning_rate=learning_rate,
                output=output,
                tensors={name: found[name] for name in each.tensors},
                failed=partial(failures.add, each.name),
            )
        return found

    def of_tables(
        self,
        found: Tables,
        failures: Failures,
        *,
        parameters: Callable[[int], Mapping[str, torch.Tensor]],
        per_epoch: float,
        before: Mapping[str, MeasuredCheckpoint],
    ) -> Tables:
        """What measurements of tables and of pairs give from those of gradients.

        Args:
            found: the tables and tensors of these.
            parameters: see `measuring.measured_checkpoints`.
            before: the checkpoint before, by measurement of pairs; see `last`.
        """
        given = dict(found)
        for each in self.of_scope("tables", "pair"):
            _pass_on(each, failures)
            own, failed = self.options[each.name], partial(failures.add, each.name)
            if each.scope == "tables":
                given |= measuring.by_tables(each, own, _needed(each, given), failed=failed)
            else:
                now, earlier = _checkpoints(each, given, parameters), before.get(each.name)
                given |= measuring.by_pairs(each, own, now, per_epoch=per_epoch, before=earlier, failed=failed)
        return {name: table for name, table in given.items() if name not in found}

    def last(
        self, found: Tables, parameters: Callable[[int], Mapping[str, torch.Tensor]]
    ) -> dict[str, MeasuredCheckpoint]:
        """By measurement of pairs, the last checkpoint that has all it needs: that before those to come."""
        pairs = {each.name: measuring.last_of(_checkpoints(each, found, parameters)) for each in self.of_scope("pair")}
        return {name: at for name, at in pairs.items() if at is not None}

    def of_run(self, found: Tables, failures: Failures, last: int) -> Tables:
        """What measurements of a whole run give from all others, at the steps until now.

        Args:
            found: the tables of these, and `metrics` where the validation loss is known.
            last: the step at which a failure is noted.
        """
        given = dict(found)
        for each in self.of_scope("run"):
            try:
                needed = _needed(each, given)
                if each.at_minimum:
                    needed = _at_minimum(needed, given.get(METRICS.name, METRICS.empty()))
                given |= measuring.by_run(each, self.options[each.name], needed)
            except Exception as error:
                failures.add(each.name, last, error)
        return {name: table for name, table in given.items() if name not in found}

    def of_scope(self, *scopes: Scope) -> list[Measurement]:
        """The measurements of some scopes."""
        return [each for each in self.measurements if each.scope in scopes]


def choose(
    model: nn.Module,
    names: Sequence[str],
    *,
    layers: Sequence[str] | None,
    k: int,
    rtol: float,
    threshold: float,
    loss: Callable[..., torch.Tensor] | None,
    given: options.Given | None = None,
) -> Chosen:
    """The measurements of these names and those that they need.

    Args:
        layers, k, rtol, threshold, loss: see `analyse_run`.
        given: the `options` there.

    Raises:
        ValueError: a measurement, an option or a layer is unknown, or a value is wrong.
        UnsupportedModelError: the loss is refused, or a measurement does not apply to it or to the model.
    """
    loss_of(loss)
    chosen = _with_needs(names)
    for each in chosen:
        if each.check is not None:
            each.check(model, loss)
    sections = options.sections(model, chosen, given, layers=layers, k=k, rtol=rtol, threshold=threshold)
    return Chosen(tuple(chosen), {each.name: options_given(each, sections) for each in chosen})


def reason(error: Exception) -> str:
    """An error in one line: what it says, after its kind where it is none of ours."""
    said = " ".join(str(error).split())
    kind = type(error).__name__
    return said if said and isinstance(error, FishertailError) else f"{kind}: {said}" if said else kind


def _with_needs(names: Sequence[str]) -> list[Measurement]:
    """The measurements of these names and those that they need, each after these."""
    known, wanted = measurements(), list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        expected = ", ".join(known)
        raise ValueError(f"measurements: among {expected} expected, found {', '.join(map(repr, unknown))}")
    for name in wanted:
        wanted += [need for need in known[name].needs if need not in wanted]
    return [each for name, each in known.items() if name in wanted]


def _pass_on(measurement: Measurement, failures: Failures) -> None:
    """Where one that it needs failed, so does a measurement."""
    for need in measurement.needs:
        for step in sorted(failures.steps(need) - failures.steps(measurement.name)):
            failures.add(measurement.name, step, FishertailError(f"needs {need}, which failed"))


def _checkpoints(
    measurement: Measurement, found: Tables, parameters: Callable[[int], Mapping[str, torch.Tensor]]
) -> Iterator[MeasuredCheckpoint]:
    """The checkpoints that have all that a measurement of pairs needs."""
    tensors = _needed(measurement, found, tensors=True)
    return measuring.measured_checkpoints(_needed(measurement, found), tensors, parameters)


def _at_minimum(tables: Tables, metrics: pd.DataFrame) -> Tables:
    """The rows at the lowest validation loss; none where it is not known, as without the number of steps per epoch."""
    known = metrics[metrics["validation_loss"].notna() & (metrics["epoch"] % 1 == 0)]
    if known.empty:
        return {name: table.iloc[:0] for name, table in tables.items()}
    step = lowest_validation_loss(known).step
    return {name: table[table["step"] == step] for name, table in tables.items()}


def _needed(measurement: Measurement, found: Tables, *, tensors: bool = False) -> Tables:
    """The data frames, or the tensors, of the measurements that one needs."""
    tables = [table for need in measurement.needs for table in measurements()[need].tables]
    return {table.name: found[table.name] for table in tables if (table.suffix == "safetensors") == tensors}
