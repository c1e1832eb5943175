"""The bound of the number of large eigenvalues, against dense spectra of which all are counted."""

import numpy as np
import pytest
import torch

from fishertail.fisher.result import Eigenpairs
from fishertail.measurements.eigenvalue_count import counted
from tests.measurements import measured
from tests.truth import dense_eigenvalues

SCOPES = [*measured.LAYERS, "network"]


@pytest.fixture(scope="module")
def tables():
    return {"norms": measured.by_gradients("norms")["norms"]}


def found(tables, **options):
    options = {"layers": "all", **options}
    table = measured.by_gradients("eigenvalue_count", tables, eigenvalue_count=options)["eigenvalue_count"]
    return table.set_index(["step", "layer"])


def truth(step, layer):
    """All P eigenvalues (P,) float64, largest first."""
    gradients = measured.gradients(step)[layer]
    values = np.zeros(gradients.shape[1])
    values[: min(gradients.shape)] = dense_eigenvalues(gradients)
    return values


@pytest.mark.parametrize("layer", SCOPES)
@pytest.mark.parametrize(("k", "ratio"), [(1, 100), (3, 100), (3, 2), (10, 10), (10, 1e4), (500, 1e4)])
def test_no_more_eigenvalues_are_above_than_the_bound_says(tables, layer, k, ratio):
    table = found(tables, eigenpairs=k, ratio=ratio)
    for step in measured.STEPS:
        row, values = table.loc[(step, layer)], truth(step, layer)
        size = min(k, len(values), measured.SAMPLES)
        above = int((values > values[0] / ratio).sum())
        further = (values.sum() - values[:size].sum()) / (values[0] / ratio)
        assert row["parameters"] == len(values)
        assert row["eigenpairs"] == size
        assert row["lambda_1"] == pytest.approx(values[0], rel=1e-4)
        assert row["sum_of_largest"] == pytest.approx(values[:size].sum(), rel=1e-4)
        assert row["trace"] == pytest.approx(values.sum(), rel=1e-5)
        error = ratio * 2e-4 / len(values)  # of the k eigenvalues, in units of the threshold
        assert row["above_share"] == pytest.approx(min((size + further) / len(values), 1), rel=1e-4, abs=error)
        assert row["above_share"] >= above / len(values)
        if values[size - 1] < values[0] / ratio or size == len(values):
            assert row["above_count"] == above
        else:
            assert np.isnan(row["above_count"])


def test_more_eigenpairs_give_no_higher_bound_as_long_as_they_are_above(tables):
    few, many = found(tables, eigenpairs=1, ratio=1e3), found(tables, eigenpairs=2, ratio=1e3)
    assert (truth(0, "first")[1:2] > truth(0, "first")[0] / 1e3).all()
    assert (many["above_share"] <= few["above_share"] * (1 + 1e-3)).all()


def test_by_default_it_is_the_layer_before_the_last(tables):
    assert set(found(tables, layers="last hidden").reset_index()["layer"]) == {"first"}
    assert set(found(tables, layers=["network", "nowhere"]).reset_index()["layer"]) == {"network"}
    assert found(tables, layers=["nowhere"]).empty


def test_without_gradients_none_is_above(monkeypatch):
    dead = {name: torch.zeros_like(tensor) for name, tensor in measured.weights()[0].items()}
    monkeypatch.setattr(measured, "weights", lambda: {0: dead})  # nothing reaches the first layer
    table = found({"norms": measured.by_gradients("norms")["norms"]})
    row = table.loc[(0, "first")]
    assert row[["lambda_1", "trace", "above_share", "above_count"]].tolist() == [0, 0, 0, 0]
    assert table.loc[(0, "second"), "above_count"] == 2  # (I - 1 1^T / 3) / 3 of the bias


def pairs(values, trace, *, converged=True):
    """As `solve` returns them, of 50 parameters."""
    flags = np.full(len(values), converged)
    return Eigenpairs(
        eigenvalues=np.array(values),
        eigenvectors=np.zeros((len(values), 50), dtype=np.float32),
        projections=np.zeros((60, 0)),
        residuals=np.zeros(len(values)),
        converged=flags,
        certified=flags,
        products=1,
        trace=trace,
    )


def test_where_f_is_not_defined_nothing_is_known():
    row = counted(pairs([np.inf, np.inf], np.nan, converged=False), 100)
    assert np.isnan([row["above_share"], row["above_count"]]).all()


def test_what_has_not_converged_is_not_counted():
    row = counted(pairs([1.0, 1e-3], 1.001, converged=False), 100)
    assert np.isnan(row["above_count"])
    assert row["above_share"] == pytest.approx(2 / 50)
    assert counted(pairs([1.0, 1e-3], 1.001), 100)["above_count"] == 1


def test_rounding_of_the_trace_leaves_no_negative_rest_and_the_share_is_at_most_1():
    assert counted(pairs([1.0, 1e-3], 1.0), 100)["above_share"] == 2 / 50
    assert counted(pairs([1.0, 0.5], 9.0), 100)["above_share"] == 1
