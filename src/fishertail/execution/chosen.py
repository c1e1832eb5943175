"""The measurements that a call asks for: with those that they need, their options, and what cannot be measured."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import nn

from fishertail.errors import FishertailError
from fishertail.execution import measuring
from fishertail.execution.measuring import Tables
from fishertail.gradients.network import NETWORK
from fishertail.measurements.measurement import MeasuredCheckpoint, Measurement, Scope, measurements, options_given
from fishertail.results.schema import EPOCH, STEP, Column, Table
from fishertail.training.checkpoints import Weights

DEFAULT = ("norms", "spectrum", "outliers")
FAILURES = Table(
    name="failures",
    suffix="csv",
    meaning="what could not be measured, and why",
    columns=(
        STEP,
        EPOCH,
        Column("measurement", "its name; `files` where all were measured but could not be written"),
        Column("reason", "the error in one line"),
    ),
    keys=("step", "measurement"),
)


@dataclass
class Failures:
    """What could not be measured, by step and measurement."""

    rows: list[tuple[int, str, str]] = field(default_factory=list)  # step, measurement, reason
    first: Exception | None = None

    def add(self, step: int, measurement: str, error: Exception) -> None:
        """Note an error; what its frames hold is freed, since it may be lack of memory."""
        traceback.clear_frames(error.__traceback__)
        self.first = self.first or error
        self.rows.append((step, measurement, reason(error)))

    def steps(self, measurement: str) -> set[int]:
        """The steps at which a measurement failed."""
        return {step for step, name, _ in self.rows if name == measurement}

    def table(self, per_epoch: float) -> pd.DataFrame:
        """The rows of `FAILURES`."""
        rows = [(step, step / per_epoch, measurement, why) for step, measurement, why in self.rows]
        return pd.DataFrame(rows, columns=FAILURES.names)


@dataclass(frozen=True)
class Chosen:
    """Measurements, each after those that it needs, and the options of each by name."""

    measurements: tuple[Measurement, ...]
    options: Mapping[str, Mapping[str, Any]]

    def measured(
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
    ) -> Tables:
        """What is measured at each of some checkpoints. What fails at one, or needs that, is added to `failures`.

        Args:
            weights: by SGD step.
            model, samples, per_epoch, device, memory_budget, loss: see `measuring.by_gradients`.
        """
        found: Tables = {}
        for each in self.of_checkpoints:
            _pass_on(each, failures)
            steps = {step: state for step, state in weights.items() if step not in failures.steps(each.name)}
            needed, failed = _frames(each, found), _adding(each, failures)
            if each.scope == "gradients":
                found |= measuring.by_gradients(
                    each,
                    self.options[each.name],
                    steps,
                    model=model,
                    samples=samples,
                    tables=needed,
                    per_epoch=per_epoch,
                    device=device,
                    memory_budget=memory_budget,
                    loss=loss,
                    failed=failed,
                )
            else:
                found |= measuring.by_tables(each, self.options[each.name], needed, failed=failed)
        return found

    @property
    def of_checkpoints(self) -> list[Measurement]:
        """Those that take one checkpoint at a time."""
        return [each for each in self.measurements if each.scope in ("gradients", "tables")]

    def of_scope(self, scope: Scope) -> list[Measurement]:
        """Those of a scope."""
        return [each for each in self.measurements if each.scope == scope]

    def pairs(
        self,
        found: Tables,
        failures: Failures,
        *,
        parameters: Callable[[int], Mapping[str, torch.Tensor]],
        per_epoch: float,
        before: dict[str, MeasuredCheckpoint] | None = None,
    ) -> Tables:
        """What is measured of neighbouring checkpoints.

        Args:
            found: what was measured at the checkpoints.
            parameters: see `measuring.measured_checkpoints`.
            before: by measurement, the checkpoint before the first of these; the last of these takes its place.
        """
        given: Tables = {}
        before = {} if before is None else before
        for each in self.of_scope("pair"):
            _pass_on(each, failures)
            checkpoints = measuring.measured_checkpoints(_frames(each, found), _tensors(each, found), parameters)
            given |= measuring.by_pairs(
                each,
                self.options[each.name],
                _noting_last(checkpoints, before, each.name),
                per_epoch=per_epoch,
                before=before.get(each.name),
                failed=_adding(each, failures),
            )
        return given

    def of_run(self, found: Tables, failures: Failures) -> Tables:
        """What is measured of the whole run.

        Args:
            found: what was measured at all checkpoints and pairs.
        """
        given: Tables = {}
        for each in self.of_scope("run"):
            frames = _frames(each, {**found, **given})
            try:
                given |= measuring.by_run(each, self.options[each.name], frames)
            except Exception as error:
                steps = [step for frame in frames.values() for step in frame.get("step", [])]
                failures.add(max(steps, default=0), each.name, error)
        return given


def choose(
    model: nn.Module,
    names: Sequence[str],
    *,
    layers: Sequence[str] | None,
    k: int,
    rtol: float,
    threshold: float,
    loss: Callable[..., torch.Tensor] | None,
) -> Chosen:
    """The measurements of these names and those that they need.

    Args:
        layers, k, rtol, threshold, loss: see `analyse_run`.

    Raises:
        ValueError: a measurement or a layer is unknown.
        UnsupportedModelError: a measurement does not apply to the model or the loss.
    """
    _check_layers(model, layers)
    chosen = _with_needs(names)
    for each in chosen:
        if each.check is not None:
            each.check(model, loss)
    settings: dict[str, dict[str, Any]] = {
        "spectrum": {"layers": "all" if layers is None else list(layers), "eigenpairs": k, "tolerance": rtol},
        "outliers": {"threshold": threshold},
    }
    options = {name: each.options(**settings.get(name, {})) for name, each in measurements().items()}
    return Chosen(tuple(chosen), {each.name: options_given(each, options) for each in chosen})


def reason(error: Exception) -> str:
    """An error in one line: what it says, after its kind where it is none of ours."""
    said = " ".join(str(error).split())
    kind = type(error).__name__
    return said if said and isinstance(error, FishertailError) else f"{kind}: {said}" if said else kind


def _check_layers(model: nn.Module, layers: Sequence[str] | None) -> None:
    """Before a pass is paid for: the workflow leaves layers out that a model lacks, since a grid has several."""
    owners = [
        name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    ]
    unknown = [name for name in layers or () if name not in (*owners, NETWORK)]
    if unknown:
        known = ", ".join([*owners, NETWORK])
        raise ValueError(f"layers: among {known} expected, found {', '.join(map(repr, unknown))}")


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
            failures.add(step, measurement.name, FishertailError(f"needs {need}, which failed"))


def _adding(measurement: Measurement, failures: Failures) -> measuring.Failed:
    """What adds a checkpoint at which a measurement fails."""
    return lambda step, error: failures.add(step, measurement.name, error)


def _noting_last(
    checkpoints: Iterable[MeasuredCheckpoint], last: dict[str, MeasuredCheckpoint], name: str
) -> Iterator[MeasuredCheckpoint]:
    """The checkpoints; the last that was measured is kept in `last`."""
    for each in checkpoints:
        yield each
        last[name] = each


def _frames(measurement: Measurement, found: Tables) -> dict[str, pd.DataFrame]:
    """The tables that a measurement needs and that are data frames."""
    return {table.name: found[table.name] for table in _needed(measurement) if table.suffix != "safetensors"}


def _tensors(measurement: Measurement, found: Tables) -> dict[str, measuring.Tensors]:
    """The tables that a measurement needs and that hold tensors."""
    return {table.name: found[table.name] for table in _needed(measurement) if table.suffix == "safetensors"}


def _needed(measurement: Measurement) -> list[Table]:
    return [table for need in measurement.needs for table in measurements()[need].tables]
