"""lambda_1 of some of the samples, against dense spectra of the same samples."""

import numpy as np
import pandas as pd
import pytest
import torch

from fishertail.execution import measuring
from fishertail.measurements import data_sensitivity
from fishertail.measurements.measurement import measurements
from fishertail.results.exhibits import Results
from tests.measurements import measured
from tests.truth import dense_eigenvalues

SAMPLES, SEED = measured.SAMPLES, 3
OPTIONS = {"layers": "all", "shares": [0.01, 0.1, 0.5], "draws": [1, 3, 2], "left_out": [0.1, 0.5], "seed": SEED}


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    return norms | {name: measured.by_gradients("spectrum", norms)[name] for name in ("spectrum", "projections")}


@pytest.fixture(scope="module")
def found(tables):
    return measured.by_gradients("data_sensitivity", tables, data_sensitivity=OPTIONS)


def selected(kind, share, draw, gradients):
    """The samples (n,) that make up F, chosen here independently."""
    order = np.random.default_rng([SEED, draw]).permutation(SAMPLES)
    if kind == "subset":
        return order[: max(1, int(share * SAMPLES))]
    if kind == "without at random":
        return order[: SAMPLES - int(share * SAMPLES)]
    top = np.linalg.svd(gradients, full_matrices=False)[2][0]
    size = {"without by a_x": np.abs(gradients @ top), "without by norm": np.linalg.norm(gradients, axis=1)}[kind]
    return np.argsort(size)[: SAMPLES - int(share * SAMPLES)]


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_every_eigenvalue_is_that_of_the_same_samples(found, layer):
    table = found["data_sensitivity"].query("layer == @layer")
    assert len(table) == len(measured.STEPS) * (1 + 3 + 2 + 3 * 2)
    for row in table.itertuples():
        gradients = measured.gradients(row.step)[layer]
        index = np.sort(selected(row.kind, row.share, row.draw, gradients))
        top = np.linalg.svd(gradients, full_matrices=False)[2][0]
        everything = dense_eigenvalues(gradients)[0]
        assert row.samples == len(index)
        assert row.lambda_1 == pytest.approx(dense_eigenvalues(gradients[index])[0], rel=1e-4)
        assert row.lambda_1_kept == pytest.approx(np.square(gradients[index] @ top).mean(), rel=1e-3)
        assert row.ratio == pytest.approx(row.lambda_1 / everything, rel=1e-3)
        assert row.ratio_kept == pytest.approx(row.lambda_1_kept / everything, rel=1e-3)


def test_deviations_are_those_of_the_draws(found):
    draws = found["data_sensitivity"].query("layer == 'first' and kind == 'subset' and share == 0.1 and step == 3")
    row = found["subset_deviations"].query("layer == 'first' and share == 0.1 and step == 3").squeeze()
    relative = draws["ratio"].to_numpy() - 1
    assert row["draws"] == 3
    assert row["samples"] == 6
    assert row["rms"] == pytest.approx(np.sqrt(np.mean(relative**2)))
    assert row["rms"] ** 2 == pytest.approx(row["bias"] ** 2 + row["deviation"] ** 2)
    assert row["gaussian"] == pytest.approx(np.sqrt(1.8 / (SAMPLES / 10)))


def test_the_gaussian_deviation_is_that_of_drawn_numbers():
    random = np.random.default_rng(0)
    squares = random.standard_normal(4000) ** 2
    means = [random.permutation(squares)[:400].mean() for _ in range(1500)]
    table = data_sensitivity.deviations(
        _table(share=0.1, samples=400, ratios=np.array(means) / squares.mean()), samples=4000
    ).squeeze()
    assert table["deviation"] == pytest.approx(table["gaussian"], rel=0.1)


def _table(share, samples, ratios):
    return pd.DataFrame(
        {
            "layer": "fc",
            "kind": "subset",
            "share": share,
            "draw": range(len(ratios)),
            "samples": samples,
            "ratio": ratios,
        }
    )


def test_by_default_the_layer_before_the_last_is_measured(tables):
    options = {**OPTIONS, "layers": "last hidden"}
    found = measured.by_gradients("data_sensitivity", tables, data_sensitivity=options)
    assert set(found["data_sensitivity"]["layer"]) == {"first"}


def test_where_no_sample_has_a_gradient_every_eigenvalue_is_0_and_every_ratio_1():
    dead = {name: torch.zeros_like(tensor) for name, tensor in measured.weights()[0].items()}
    dead["second.bias"] = torch.tensor([400.0, 0.0, 0.0])
    images, labels = measured.samples()
    found = {}
    for name in ("norms", "spectrum", "data_sensitivity"):
        sections = {other: each.options() for other, each in measurements().items()}
        sections["data_sensitivity"] = measurements()["data_sensitivity"].options(**OPTIONS)
        found |= measuring.by_gradients(
            measurements()[name],
            measured.options_given(measurements()[name], sections),
            {0: dead},
            model=measured.network(),
            samples=(images, torch.zeros_like(labels)),
            tables={table: rows for table, rows in found.items() if table != "eigenvectors"},
            per_epoch=1,
        )
    assert (found["data_sensitivity"]["lambda_1"] < 1e-200).all()
    assert (found["data_sensitivity"]["ratio"] == 1).all()
    assert (found["subset_deviations"]["rms"] == 0).all()


def test_figures_show_the_mean_over_the_seeds_at_the_lowest_validation_loss(found):
    runs = [{"dataset": "digits", "model": "fc", "batch_size": 16, "seed": seed} for seed in (0, 1)]
    of_runs = {name: _of_runs(table, runs) for name, table in found.items()}
    loss = pd.DataFrame({"step": measured.STEPS, "epoch": [0, 0.75, 2], "validation_loss": [2.0, 3.0, 1.0]})
    shown = Results(
        [run | {"figure_layer": "first"} for run in runs], of_runs | {"metrics": _of_runs(loss, runs)}, settings={}
    )
    _, subsets = data_sensitivity.draw_subsets(shown)
    truth = found["subset_deviations"].query("layer == 'first' and step == 8")
    np.testing.assert_allclose(subsets["mean"], truth["rms"])
    np.testing.assert_allclose(subsets["Gaussian a_x"], truth["gaussian"])
    assert set(subsets["seeds"]) == {2}
    _, left_out = data_sensitivity.draw_left_out(shown)
    at_minimum = found["data_sensitivity"].query("layer == 'first' and step == 8").set_index("kind")
    np.testing.assert_allclose(left_out["mean"], at_minimum.loc["without by a_x", "ratio"])
    for kind in ("without by norm", "without at random"):
        np.testing.assert_allclose(left_out[kind], at_minimum.loc[kind, "ratio"])


def _of_runs(table, runs):
    return pd.concat([table.assign(**run) for run in runs], ignore_index=True)


def test_each_share_needs_its_number_of_draws():
    with pytest.raises(ValueError, match="draws: one for each of 2 shares expected, found 1"):
        data_sensitivity.SensitivityOptions(shares=[0.1, 0.5], draws=[3])
