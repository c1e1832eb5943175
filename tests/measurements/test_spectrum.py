"""Eigenvalues, eigenvectors and a_x against dense spectra."""

import numpy as np
import pytest

from tests.measurements import measured
from tests.truth import dense_eigenvalues


@pytest.fixture(scope="module")
def norms():
    return measured.by_gradients("norms")


@pytest.fixture(scope="module")
def found(norms):
    return measured.by_gradients("spectrum", norms, spectrum={"eigenpairs": 2})


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_eigenvalues_and_traces(found, layer):
    for step in measured.STEPS:
        rows = found["spectrum"].query("step == @step and layer == @layer")
        gradients = measured.gradients(step)[layer]
        np.testing.assert_allclose(rows["eigenvalue"], dense_eigenvalues(gradients)[:2], rtol=1e-4)
        np.testing.assert_allclose(rows["trace"], np.square(gradients).sum(1).mean(), rtol=1e-5)
        assert rows["rank"].tolist() == [1, 2]
        assert rows["converged"].all()
        assert (rows["epoch"] == step / measured.PER_EPOCH).all()


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_a_x_is_the_projection_on_the_eigenvector(found, layer):
    for step in measured.STEPS:
        rows = found["projections"].query("step == @step")
        assert rows["sample"].tolist() == list(range(measured.SAMPLES))
        vectors = found["eigenvectors"][f"step{step:08d}/{layer}"].double().numpy()
        gradients = measured.gradients(step)[layer]
        assert vectors.shape == (2, gradients.shape[1])
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(2), atol=1e-5)
        a_x = gradients @ vectors[0]
        np.testing.assert_allclose(rows[layer], a_x, atol=1e-5 * np.abs(a_x).max())
        assert rows[layer].mean() >= 0
        first = found["spectrum"].query("step == @step and layer == @layer and rank == 1")["eigenvalue"].item()
        assert np.square(rows[layer]).mean() == pytest.approx(first, rel=1e-4)


def test_layers_that_a_model_does_not_have_are_passed_over(norms):
    found = measured.by_gradients("spectrum", norms, spectrum={"layers": ["second", "fc4", "network"]})
    assert found["spectrum"]["layer"].unique().tolist() == ["second", "network"]
    assert list(found["projections"]) == ["step", "epoch", "sample", "second", "network"]
    assert len(found["eigenvectors"]) == 2 * len(measured.STEPS)
