"""A, B and B re-solved against dense spectra."""

import numpy as np
import pytest

from tests.measurements import measured
from tests.truth import dense_eigenvalues

FRACTION = 0.25


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    return norms | {"projections": measured.by_gradients("spectrum", norms)["projections"]}


@pytest.fixture(scope="module")
def trimmed(tables):
    found = measured.by_gradients("trimmed_eigenvalues", tables, trimmed_eigenvalues={"fraction": FRACTION})
    return found["trimmed"].set_index(["step", "layer"])


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_a_and_b_in_every_layer(trimmed, tables, layer):
    for step in measured.STEPS:
        row, gradients = trimmed.loc[(step, layer)], measured.gradients(step)[layer]
        a_x = tables["projections"].query("step == @step")[layer].to_numpy(dtype=float)
        stay = np.argsort(np.abs(a_x))[: measured.SAMPLES - int(FRACTION * measured.SAMPLES)]
        _, _, vectors = np.linalg.svd(gradients, full_matrices=False)
        assert row["A"] == pytest.approx(dense_eigenvalues(gradients)[0], rel=1e-4)
        assert row["B"] == pytest.approx(np.square(gradients[stay] @ vectors[0]).mean(), rel=1e-3)
        assert row["B_resolved"] == pytest.approx(dense_eigenvalues(gradients[stay])[0], rel=1e-4)
        assert row["decrease_percent"] == pytest.approx(100 * (1 - row["B"] / row["A"]))
        assert row["decrease_resolved_percent"] == pytest.approx(100 * (1 - row["B_resolved"] / row["A"]))
        assert row["left_out"] == int(FRACTION * measured.SAMPLES)


def test_what_is_re_solved_is_no_smaller_than_with_the_eigenvector_kept(trimmed):
    assert (trimmed["B_resolved"] >= trimmed["B"] * (1 - 1e-4)).all()


def test_the_order_of_rows_does_not_matter(tables, trimmed):
    shuffled = {name: tables[name].sample(frac=1, random_state=0) for name in ("norms", "projections")}
    found = measured.by_gradients("trimmed_eigenvalues", shuffled, trimmed_eigenvalues={"fraction": FRACTION})
    found = found["trimmed"].set_index(["step", "layer"])
    np.testing.assert_allclose(found["B"], trimmed["B"], rtol=1e-9)
    np.testing.assert_allclose(found["B_resolved"], trimmed["B_resolved"], rtol=1e-4)
