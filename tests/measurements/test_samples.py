"""The scores of a run against the norms of dense gradients."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fishertail.measurements import samples
from fishertail.results.exhibits import Results
from fishertail.statistics.outliers import outliers
from tests.measurements import measured

OPTIONS = {"early": 0.5, "layer": "network", "outliers": {"threshold": 10, "reading": "distance"}}


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    spectrum = measured.by_gradients("spectrum", norms)
    return norms | {"projections": spectrum["projections"]} | measured.by_gradients("sample_scores")


def measure(tables, **options):
    return samples.measure(SimpleNamespace(tables=tables), OPTIONS | options)["samples"]


def test_means_over_early_checkpoints_and_outliers_over_all(tables):
    found = measure(tables, early=1)
    norms = {step: np.linalg.norm(measured.gradients(step)["network"], axis=1) for step in measured.STEPS}
    tops = {step: np.linalg.svd(measured.gradients(step)["network"])[2][0] for step in measured.STEPS}
    expected = norms[8]  # the only one after an epoch of 4 steps
    np.testing.assert_allclose(found["grand"], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found["a_x"], np.abs(measured.gradients(8)["network"] @ tops[8]), rtol=1e-3, atol=1e-3)
    masks = np.stack([outliers(norms[step]).mask for step in measured.STEPS])
    assert masks.any()
    assert found["outlier_checkpoints"].tolist() == masks.sum(0).tolist()
    firsts = [next((step for step, out in zip(measured.STEPS, column, strict=True) if out), -1) for column in masks.T]
    assert found["first_outlier"].tolist() == firsts
    assert list(found) == samples.TABLE.names


def test_the_order_of_rows_does_not_matter(tables):
    shuffled = {name: table.sample(frac=1, random_state=0) for name, table in tables.items()}
    pd.testing.assert_frame_equal(measure(shuffled), measure(tables))


def test_a_layer_without_a_x_has_none(tables):
    without = tables | {"projections": tables["projections"].drop(columns="network")}
    assert measure(without)["a_x"].isna().all()


def test_a_run_without_checkpoints_has_no_rows(tables):
    assert measure({name: table.head(0) for name, table in tables.items()}).empty


def test_figures_take_the_mean_over_the_seeds(tables):
    run = {"dataset": "digits", "model": "fc", "batch_size": 16}
    first, second = measure(tables), measure(tables).assign(grand=np.arange(measured.SAMPLES, dtype=float))
    both = pd.concat([first.assign(**run, seed=0), second.assign(**run, seed=1)])
    metrics = pd.concat([pd.DataFrame({"step": [0, 8], "epoch": [0, 2]}).assign(**run, seed=seed) for seed in (0, 1)])
    shown = Results([run | {"seed": 0}, run | {"seed": 1}], {"samples": both, "metrics": metrics}, settings={})

    _, agreement = samples.draw_agreement(shown)
    means = pd.DataFrame({"grand": (first["grand"] + second["grand"]) / 2, "loss": first["loss"]})
    assert agreement["grand and loss"].item() == pytest.approx(means.rank().corr().loc["grand", "loss"])

    _, stretches = samples.draw_stretches(shown)
    ever = (first["first_outlier"] >= 0).mean()
    whole = (first["longest_stretch"] >= 8).mean()
    assert stretches["epochs"].iloc[0] == 0
    assert stretches["mean"].iloc[0] == pytest.approx(ever)
    assert stretches.query("epochs == 2")["mean"].sum() == pytest.approx(whole)
