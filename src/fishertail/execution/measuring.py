"""Measure checkpoints, by their gradients or from tables of earlier measurements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from fishertail.gradients.memory_budget import resolved_budget
from fishertail.measurements.checkpoint import opened
from fishertail.measurements.measurement import Checkpoint, Measurement
from fishertail.results.schema import Table, joined
from fishertail.training.checkpoints import Weights, prefix

Tensors = dict[str, torch.Tensor]
Tables = dict[str, Any]  # by name, a data frame, or tensors by name


def by_gradients(
    measurement: Measurement,
    options: Mapping[str, Any],
    weights: Mapping[int, Weights],
    *,
    model: nn.Module,
    samples: tuple[torch.Tensor, torch.Tensor],
    tables: Mapping[str, pd.DataFrame],
    per_epoch: float,
    device: str = "cpu",
    memory_budget: float | None = None,
    loss: Callable[..., torch.Tensor] | None = None,
    learning_rate: float = float("nan"),
    tensors: Mapping[str, Tensors] | None = None,
    failed: Callable[[int, Exception], None] | None = None,
) -> Tables:
    """What a measurement of gradients gives at some checkpoints.

    Args:
        options: as the measurement's `measure` takes them.
        weights: by SGD step; an empty mapping gives tables without rows.
        model: its weights are overwritten.
        samples: images and labels of all training samples, on the device.
        tables: of the needed measurements, at these steps at least.
        per_epoch: SGD steps of an epoch; NaN where that is not known.
        memory_budget: bytes; half of what is free by default.
        loss: of one sample; cross entropy by default.
        learning_rate: of the run.
        tensors: the tables of tensors that the measurement takes, with the steps in their names.
        failed: called with the step and the error where a checkpoint cannot be measured, which is then left out; by
            default the error is raised.
    """
    budget = resolved_budget(memory_budget, device)
    found = {}
    for step, state in tqdm(weights.items(), desc=measurement.name, unit="checkpoint", disable=not weights):
        try:
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
                tensors={name: _tensors_at(table, step) for name, table in (tensors or {}).items()},
            ) as at:
                for table in measurement.tables:
                    if table.of_layers is not None:
                        table.columns_of(at.matrix.layers)
                found[step] = measurement.measure(at, options)
        except Exception as error:
            if failed is None:
                raise
            failed(step, error)
    return _with_steps(measurement.tables, found, {step: step / per_epoch for step in weights})


def by_tables(measurement: Measurement, options: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Tables:
    """What a measurement gives from other measurements' tables, at the checkpoints that all of these cover.

    Args:
        options, tables: see `by_gradients`.
    """
    steps = set.intersection(*(set(table["step"]) for table in tables.values()))
    found = {step: measurement.measure(Checkpoint(step, _at(tables, step)), options) for step in sorted(steps)}
    first = next(iter(tables.values()))
    return _with_steps(measurement.tables, found, dict(zip(first["step"], first["epoch"], strict=True)))


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


def _at(tables: Mapping[str, pd.DataFrame], step: int) -> dict[str, pd.DataFrame]:
    return {name: table[table["step"] == step].drop(columns=["step", "epoch"]) for name, table in tables.items()}


def _tensors_at(tensors: Tensors, step: int) -> Tensors:
    return {name.removeprefix(prefix(step)): it for name, it in tensors.items() if name.startswith(prefix(step))}


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
