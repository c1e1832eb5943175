"""Measure by the scope of a measurement: checkpoints, by their gradients or from tables; pairs of them; or a run.

There is a function for each scope. All but that of a run take one checkpoint as well as many.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from fishertail.gradients.memory_budget import resolved_budget
from fishertail.measurements.checkpoint import opened
from fishertail.measurements.measurement import (
    Checkpoint,
    MeasuredCheckpoint,
    Measurement,
    Pair,
    RunTables,
)
from fishertail.results.schema import Table, joined
from fishertail.training.checkpoints import Weights, of_step, prefix

Tensors = dict[str, torch.Tensor]
Tables = dict[str, Any]  # by name, a data frame, or tensors by name
Failed = Callable[[int, Exception], None]
Measured = Callable[[int, Tables], None]
Item = TypeVar("Item")


def by_gradients(
    measurement: Measurement,
    options: Mapping[str, Any],
    weights: Mapping[int, Weights],
    *,
    model: nn.Module,
    samples: tuple[Any, Any],
    tables: Mapping[str, pd.DataFrame],
    per_epoch: float,
    device: str = "cpu",
    memory_budget: float | None = None,
    loss: Callable[..., torch.Tensor] | None = None,
    learning_rate: float = float("nan"),
    output: str | int | None = None,
    tensors: Mapping[str, Tensors] | None = None,
    failed: Failed | None = None,
    measured: Measured | None = None,
) -> Tables:
    """What a measurement of gradients gives at some checkpoints.

    Args:
        options: as the measurement's `measure` takes them.
        weights: by SGD step; an empty mapping gives tables without rows.
        model: its weights are overwritten.
        samples: images and labels of all training samples, see `gradient_norms`.
        tables: of the needed measurements, at these steps at least.
        per_epoch: SGD steps of an epoch; NaN where that is not known.
        memory_budget: bytes; half of what is free by default.
        loss: of one sample; cross entropy by default.
        learning_rate: of the run.
        output: see `gradient_norms`.
        tensors: the tables of tensors that the measurement takes, with the steps in their names.
        failed: called with the step and the error where a checkpoint cannot be measured, which is then left out; by
            default the error is raised.
        measured: called with each step and its tables as soon as they are measured.
    """
    budget = resolved_budget(memory_budget, device)

    def measure(step: int, state: Weights) -> Mapping[str, Any]:
        with opened(
            model,
            step,
            state,
            samples,
            _at(tables, step),
            device=device,
            memory_budget=budget,
            loss=loss,
            learning_rate=learning_rate,
            output=output,
            tensors={name: of_step(each, step) for name, each in (tensors or {}).items()},
        ) as at:
            for table in measurement.tables:
                if table.of_layers is not None:
                    table.columns_of(at.matrix.layers)
            found = measurement.measure(at, options)
        if measured is not None:
            measured(step, _with_steps(measurement.tables, {step: found}, {step: step / per_epoch}))
        return found

    states = tqdm(weights.items(), desc=measurement.name, unit="checkpoint", disable=len(weights) < 2)
    found = _at_each(states, measure, failed)
    return _with_steps(measurement.tables, found, {step: step / per_epoch for step in weights})


def by_tables(
    measurement: Measurement,
    options: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    *,
    failed: Failed | None = None,
) -> Tables:
    """What a measurement gives from other measurements' tables, at the checkpoints that all of these cover.

    Args:
        options, tables, failed: see `by_gradients`.
    """
    checkpoints = ((step, Checkpoint(step, _at(tables, step))) for step in common_steps(tables))
    found = _at_each(checkpoints, lambda _, at: measurement.measure(at, options), failed)
    return _with_steps(measurement.tables, found, _epochs(tables))


def by_pairs(
    measurement: Measurement,
    options: Mapping[str, Any],
    checkpoints: Iterable[MeasuredCheckpoint],
    *,
    per_epoch: float,
    before: MeasuredCheckpoint | None = None,
    failed: Failed | None = None,
) -> Tables:
    """What a measurement of pairs gives at some checkpoints, each with the one before it.

    Args:
        options, per_epoch, failed: see `by_gradients`.
        checkpoints: ascending, as from `measured_checkpoints`; two are in memory at a time.
        before: the checkpoint before the first of them; None where there is none.
    """
    found = _at_each(_pairs(checkpoints, before), lambda _, at: measurement.measure(at, options), failed)
    return _with_steps(measurement.tables, found, {step: step / per_epoch for step in found})


def by_run(measurement: Measurement, options: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Tables:
    """What a measurement gives from the tables of all checkpoints of a run.

    Args:
        options: see `by_gradients`.
        tables: of the needed measurements, in the order of steps; without rows where the run has none.
    """
    found = measurement.measure(RunTables(tables), options)
    for table in measurement.tables:
        table.check(found[table.name], table.name)
    return dict(found)


def measured_checkpoints(
    tables: Mapping[str, pd.DataFrame],
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    parameters: Callable[[int], Mapping[str, torch.Tensor]],
) -> Iterator[MeasuredCheckpoint]:
    """The checkpoints that all tables cover, ascending, as pairs take them.

    Args:
        tables: of the needed measurements.
        tensors: of the needed measurements, by table and by names that begin with the step.
        parameters: called with an SGD step, gives the weights as `MeasuredCheckpoint` has them.
    """
    for step in common_steps(tables):
        own = {name: of_step(each, step) for name, each in tensors.items()}
        yield MeasuredCheckpoint(step, _at(tables, step), own, parameters(step))


def last_of(checkpoints: Iterable[MeasuredCheckpoint]) -> MeasuredCheckpoint | None:
    """The last checkpoint; None if there is none."""
    last = None
    for each in checkpoints:
        last = each
    return last


def common_steps(tables: Mapping[str, pd.DataFrame]) -> list[int]:
    """The steps that all tables have."""
    return sorted(set.intersection(*(set(table["step"]) for table in tables.values())))


def merged(measurement: Measurement, parts: Sequence[Tables]) -> Tables:
    """Join tables of different checkpoints in the order of steps; where parts repeat rows, the first part counts."""
    whole: Tables = {}
    for table in measurement.tables:
        given = [part[table.name] for part in parts if table.name in part]
        if table.suffix == "safetensors":
            tensors = {name: tensor for part in reversed(given) for name, tensor in part.items()}
            whole[table.name] = dict(sorted(tensors.items(), key=lambda item: item[0].split("/")[0]))
        else:
            rows = joined(given) if given else table.empty()
            rows = rows.drop_duplicates(list(table.keys)) if len(rows) else rows
            whole[table.name] = rows.sort_values("step", kind="stable", ignore_index=True)
    return whole


def at_steps(measurement: Measurement, tables: Tables, steps: Iterable[int]) -> Tables:
    """The rows and tensors of some steps."""
    wanted, prefixes = set(steps), tuple(prefix(step) for step in steps)
    return {
        table.name: {name: tensor for name, tensor in tables[table.name].items() if name.startswith(prefixes)}
        if table.suffix == "safetensors"
        else tables[table.name][tables[table.name]["step"].isin(wanted)]
        for table in measurement.tables
        if table.name in tables
    }


def _at_each(
    items: Iterable[tuple[int, Item]], measure: Callable[[int, Item], Mapping[str, Any]], failed: Failed | None
) -> dict[int, Mapping[str, Any]]:
    """What is measured of the item of each step. Steps that fail are left out, unless the error is to be raised."""
    found = {}
    for step, item in items:
        try:
            found[step] = measure(step, item)
        except Exception as error:
            if failed is None:
                raise
            failed(step, error)
    return found


def _pairs(checkpoints: Iterable[MeasuredCheckpoint], before: MeasuredCheckpoint | None) -> Iterator[tuple[int, Pair]]:
    """Each checkpoint with the one before it, by its step."""
    for now in checkpoints:
        yield now.step, Pair(now, before)
        before = now


def _epochs(tables: Mapping[str, pd.DataFrame]) -> dict[int, float]:
    """The epochs of the steps that all tables have."""
    first = next(iter(tables.values()))
    return dict(zip(first["step"], first["epoch"], strict=True))


def _at(tables: Mapping[str, pd.DataFrame], step: int) -> dict[str, pd.DataFrame]:
    return {name: table[table["step"] == step].drop(columns=["step", "epoch"]) for name, table in tables.items()}


def _with_steps(tables: Sequence[Table], found: Mapping[int, Mapping[str, Any]], epochs: Mapping[int, float]) -> Tables:
    """The tables of all steps, with the columns `step` and `epoch`, or names that begin with the step."""
    whole: Tables = {}
    for table in tables:
        if table.suffix == "safetensors":
            whole[table.name] = {
                f"{prefix(step)}{name}": tensor
                for step, given in found.items()
                for name, tensor in given[table.name].items()
            }
            continue
        parts = [given[table.name].copy() for given in found.values()]
        for part, step in zip(parts, found, strict=True):
            part.insert(0, "step", np.int32(step))
            part.insert(1, "epoch", epochs[step])
            table.check(part, table.name)
        whole[table.name] = joined(parts) if parts else table.empty()
    return whole
