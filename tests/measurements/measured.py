"""A small network at three checkpoints, and measurements of it as the workflow makes them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fishertail.execution import measuring
from fishertail.execution.chosen import Chosen, Failures
from fishertail.measurements.checkpoint import flat_parameters
from fishertail.measurements.measurement import measurements, options_given
from tests.truth import dense_gradients

PER_EPOCH = 4
STEPS = (0, 3, 8)
LAYERS = ["first", "second"]
SAMPLES = 60
RATE = 0.05


@cache
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels; a few of the inputs are far out."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 6, generator=generator)
    inputs[:4] *= 30
    return inputs, torch.arange(SAMPLES) % 3


def network() -> nn.Module:
    model = nn.Sequential()
    for name, layer in {"first": nn.Linear(6, 5), "activation": nn.ReLU(), "second": nn.Linear(5, 3)}.items():
        model.add_module(name, layer)
    return model


@cache
def weights() -> dict[int, dict[str, torch.Tensor]]:
    """By SGD step."""
    generator = torch.Generator().manual_seed(1)
    shapes = {name: tensor.shape for name, tensor in network().state_dict().items()}
    return {step: {name: torch.randn(s, generator=generator) for name, s in shapes.items()} for step in STEPS}


@cache
def gradients(step: int) -> dict[str, np.ndarray]:
    """(N, P) float64 by layer and for the network: the truth."""
    model = network()
    model.load_state_dict(weights()[step])
    found = dense_gradients(model, *samples())
    return found | {"network": np.concatenate([found[layer] for layer in LAYERS], axis=1)}


def by_gradients(name: str, tables: Mapping[str, pd.DataFrame] | None = None, **settings: dict[str, Any]) -> dict:
    """The tables of a measurement of gradients at all checkpoints.

    Args:
        tables: of the needed measurements.
        settings: sections of the configuration, by measurement.
    """
    return measuring.by_gradients(
        measurements()[name],
        _options(name, settings),
        weights(),
        model=network(),
        samples=samples(),
        tables={each: table for each, table in (tables or {}).items() if isinstance(table, pd.DataFrame)},
        tensors={each: tables[each] for each in measurements()[name].tensors} if tables else None,
        learning_rate=RATE,
        per_epoch=PER_EPOCH,
    )


def by_tables(name: str, tables: Mapping[str, pd.DataFrame], **settings: dict[str, Any]) -> pd.DataFrame:
    """The table of a measurement out of others' tables."""
    (table,) = measuring.by_tables(measurements()[name], _options(name, settings), tables).values()
    return table


def without_gradients(name: str, found: Mapping[str, Any], **settings: dict[str, Any]) -> pd.DataFrame:
    """The table of a measurement of pairs or of a run, from what was measured at all checkpoints."""
    model = network()

    def parameters(step: int) -> dict[str, torch.Tensor]:
        model.load_state_dict(weights()[step])
        return flat_parameters(model)

    chosen, failures = Chosen((measurements()[name],), {name: _options(name, settings)}), Failures()
    given = chosen.of_tables(found, failures, parameters=parameters, per_epoch=PER_EPOCH, before={})
    given |= chosen.of_run(found, failures, last=max(STEPS))
    if failures.first is not None:
        raise failures.first
    (table,) = given.values()
    return table


def _options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    sections = {other: each.options(**settings.get(other, {})) for other, each in measurements().items()}
    return options_given(measurements()[name], sections)


def checkpoint(step: int, **columns: Any) -> pd.DataFrame:
    """A wide table of one checkpoint: a row for each sample."""
    table = pd.DataFrame({"step": step, "epoch": step / PER_EPOCH, **columns})
    table.insert(2, "sample", range(len(table)))
    return table
