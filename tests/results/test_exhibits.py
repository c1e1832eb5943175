"""What figures and tables over runs are given, and how they are named."""

import pandas as pd
import pytest

from fishertail.results.exhibits import Figure, Results
from fishertail.results.schema import RUN

RUNS = [
    {"dataset": "digits", "model": model, "batch_size": 16, "seed": seed, "figure_layer": layer}
    for model, layer in (("fc", "fc4"), ("conv", "fc2"))
    for seed in (0, 1)
]
LOSSES = {0: [3, 1, 2], 1: [3, 2, 1]}  # by seed, at the ends of epochs


@pytest.fixture
def results():
    values, metrics = [], []
    for run in RUNS:
        named = {key: run[key] for key in RUN}
        for epoch, loss in enumerate(LOSSES[run["seed"]]):
            metrics.append({**named, "step": 5 * epoch, "epoch": float(epoch), "validation_loss": loss})
            values += [
                {**named, "step": 5 * epoch, "layer": layer, "value": epoch} for layer in ("fc2", "fc4", "network")
            ]
        metrics.append({**named, "step": 1, "epoch": 0.2, "validation_loss": 0})
    return Results(RUNS, {"metrics": pd.DataFrame(metrics), "values": pd.DataFrame(values)}, {})


def test_each_runs_figure_layer(results):
    found = results.of_layer("values")
    assert list(found) == list(results["values"])
    assert found.groupby("model")["layer"].unique().map(list).to_dict() == {"fc": ["fc4"], "conv": ["fc2"]}
    assert len(found) == 4 * 3


def test_one_layer(results):
    assert set(results.of_layer("values", "network")["layer"]) == {"network"}


def test_minima_are_by_run(results):
    found = results.minima()
    assert list(found) == [tuple(run[key] for key in RUN) for run in RUNS]
    assert [(lowest.epoch, lowest.step, lowest.passed) for lowest in found.values()] == [
        (1, 5, True),
        (2, 10, False),
    ] * 2


def test_the_rows_of_each_runs_minimum(results):
    found = results.at_minimum(results.of_layer("values"))
    assert found["step"].tolist() == [5, 10, 5, 10]
    assert list(found) == list(results["values"])


def test_a_figure_for_each_data_set():
    figure = Figure(
        "fig{number}_a_{dataset}",
        "Fig. {number}: {dataset}",
        "",
        (),
        print,
        numbers=lambda name: 3 if name == "mnist" else 2,
        rule="fig2_3_a",
    )
    assert figure.by_dataset
    assert (figure.stem("mnist"), figure.title_of("digits", "Digits")) == ("fig3_a_mnist", "Fig. 2: Digits")
    assert figure.rule == "fig2_3_a"


def test_a_figure_for_all():
    figure = Figure("fig7_b", "Fig. 7: {braces}", "", (), print)
    assert not figure.by_dataset
    assert (figure.stem("mnist"), figure.title_of("mnist", "MNIST")) == ("fig7_b", "Fig. 7: {braces}")
    assert figure.rule == "fig7_b"
