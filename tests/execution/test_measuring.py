"""Pairs of checkpoints, whole runs, and what happens to the others where one fails."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from fishertail.errors import StorageError
from fishertail.execution import measuring
from fishertail.measurements.checkpoint import flat_parameters
from fishertail.measurements.measurement import MeasuredCheckpoint, measurements
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from tests.gradients import layers
from tests.measurements import measured

PAIRS = replace(
    measurements()["alignment"],
    measure=lambda at, options: {"pairs": pd.DataFrame({"before": [-1 if at.before is None else at.before.step]})},
    tables=(Table("pairs", "csv", "steps", (STEP, EPOCH, Column("before", "step")), keys=("step",)),),
)


def checkpoints(*steps):
    return [MeasuredCheckpoint(step, {}, {}, {}) for step in steps]


def test_each_checkpoint_is_paired_with_the_one_before():
    found = measuring.by_pairs(PAIRS, {}, iter(checkpoints(0, 3, 8)), per_epoch=4)["pairs"]
    assert found.to_numpy().tolist() == [[0, 0, -1], [3, 0.75, 0], [8, 2, 3]]


def test_one_at_a_time_gives_the_same():
    parts, before = [], None
    for now in checkpoints(0, 3, 8):
        parts.append(measuring.by_pairs(PAIRS, {}, [now], per_epoch=4, before=before))
        before = now
    whole = measuring.by_pairs(PAIRS, {}, checkpoints(0, 3, 8), per_epoch=4)["pairs"]
    pd.testing.assert_frame_equal(measuring.merged(PAIRS, parts)["pairs"], whole)


def test_a_pair_that_fails_leaves_the_others():
    def measure(at, options):
        if at.now.step == 3:
            raise ValueError("no direction")
        return PAIRS.measure(at, options)

    failures = []
    failing = replace(PAIRS, measure=measure)
    found = measuring.by_pairs(
        failing, {}, checkpoints(0, 3, 8), per_epoch=4, failed=lambda *failure: failures.append(failure)
    )
    assert found["pairs"][["step", "before"]].to_numpy().tolist() == [[0, -1], [8, 3]]
    assert [(step, str(error)) for step, error in failures] == [(3, "no direction")]
    with pytest.raises(ValueError, match="no direction"):
        measuring.by_pairs(failing, {}, checkpoints(0, 3, 8), per_epoch=4)


def test_tables_that_fail_at_a_checkpoint_leave_the_others():
    norms = measured.by_gradients("norms")["norms"]
    failures = []
    broken = norms.assign(network=norms["network"].where(norms["step"] != 3, "?"))
    options = {"threshold": 10}
    found = measuring.by_tables(
        measurements()["outliers"], options, {"norms": broken}, failed=lambda *failure: failures.append(failure)
    )
    assert found["outliers"]["step"].unique().tolist() == [0, 8]
    assert [step for step, _ in failures] == [3]


def test_checkpoints_of_pairs_are_those_that_all_tables_have():
    norms = measured.by_gradients("norms")
    noise = measured.by_gradients("noise_scale", norms)
    spectrum = pd.DataFrame({"step": [0, 8], "epoch": [0, 2.0], "layer": "first", "eigenvalue": [1.0, 2.0]})
    found = list(
        measuring.measured_checkpoints(
            {"noise_scale": noise["noise_scale"], "spectrum": spectrum},
            {"mean_gradients": noise["mean_gradients"]},
            lambda step: {"first": torch.full((2,), float(step))},
        )
    )
    assert [each.step for each in found] == [0, 8]
    assert found[1].tables["spectrum"].to_dict("records") == [{"layer": "first", "eigenvalue": 2.0}]
    assert list(found[1].tensors["mean_gradients"]) == [*measured.LAYERS, "network"]
    assert torch.equal(found[1].parameters["first"], torch.full((2,), 8.0))
    assert measuring.last_of(found) is found[1]
    assert measuring.last_of([]) is None


def test_a_run_gets_whole_tables_and_must_give_what_it_declares():
    table = Table("last", "csv", "last step", (LAYER, Column("last", "step")), keys=("layer",))
    measurement = replace(
        measurements()["drift_to_diffusion"],
        measure=lambda at, options: {
            "last": at.tables["noise_scale"].groupby("layer", sort=False)["step"].max().reset_index()
        },
        tables=(table,),
    )
    noise = measured.by_gradients("noise_scale", measured.by_gradients("norms"))["noise_scale"]
    with pytest.raises(StorageError, match=r"last: columns \['layer', 'last'\] expected"):
        measuring.by_run(measurement, {}, {"noise_scale": noise})
    named = replace(measurement, tables=(replace(table, columns=(LAYER, STEP)),))
    found = measuring.by_run(named, {}, {"noise_scale": noise})["last"]
    assert found.to_numpy().tolist() == [[layer, 8] for layer in (*measured.LAYERS, "network")]


@pytest.mark.parametrize(
    "model",
    [layers.frozen(layers.twice_under_two_names(), "6.bias"), nn.Sequential(nn.Flatten(), nn.Linear(8 * 7 * 6, 5))],
    ids=["shared and frozen", "linear"],
)
def test_parameters_are_in_the_order_of_the_mean_gradient(model):
    """A step of gradient descent by torch goes along it."""
    rate, (inputs, labels) = 0.5, layers.pictures()
    before, after = model.double(), copy.deepcopy(model)
    optimizer = torch.optim.SGD([p for p in after.parameters() if p.requires_grad], lr=rate)
    nn.functional.cross_entropy(after(inputs.double()), labels).backward()
    optimizer.step()
    weights = {0: before.state_dict()}
    arguments = {"model": copy.deepcopy(model), "samples": (inputs.double(), labels), "per_epoch": 1}
    norms = measuring.by_gradients(measurements()["norms"], {}, weights, tables={}, **arguments)
    noise = measuring.by_gradients(measurements()["noise_scale"], {}, weights, tables=norms, **arguments)
    old, new = flat_parameters(before), flat_parameters(after)
    assert {f"step00000000/{name}" for name in old} == set(noise["mean_gradients"])
    for name in old:
        torch.testing.assert_close(
            (old[name] - new[name]).float(),
            rate * noise["mean_gradients"][f"step00000000/{name}"],
            rtol=1e-5,
            atol=1e-8,
        )
    assert not torch.equal(old["network"], new["network"])
