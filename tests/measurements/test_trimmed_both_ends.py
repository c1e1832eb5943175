"""A, B and B without both ends, of numbers that are known and of the same samples as trimmed_eigenvalues."""

import numpy as np
import pandas as pd
import pytest

from tests.measurements import measured


def test_made_up_projections():
    a_x = np.concatenate([[-20.0, 30.0, 40.0, 50.0], np.full(36, 1.0)])  # 40 samples, of which 4 or 2 + 2 go
    tables = {
        "spectrum": pd.DataFrame({"step": [3], "epoch": [0.75]}),
        "projections": measured.checkpoint(3, fc4=a_x, network=-a_x).sample(frac=1, random_state=0),
    }
    table = measured.by_tables("trimmed_both_ends", tables).set_index("layer")
    for layer in ("fc4", "network"):
        row = table.loc[layer]
        assert row["A"] == pytest.approx((400 + 900 + 1600 + 2500 + 36) / 40)
        assert row["B_both_ends"] == pytest.approx((900 + 35) / 36)  # -20 and a 1, 40 and 50 are left out
        assert row["B"] == pytest.approx(1)
        assert row["left_out"] == 4
        assert row["decrease_percent"] == pytest.approx(100 * (1 - row["B"] / row["A"]))
        assert row["decrease_both_ends_percent"] == pytest.approx(100 * (1 - row["B_both_ends"] / row["A"]))


def test_a_dead_layer_loses_nothing():
    tables = {
        "spectrum": pd.DataFrame({"step": [0], "epoch": [0.0]}),
        "projections": measured.checkpoint(0, fc4=np.zeros(20)),
    }
    row = measured.by_tables("trimmed_both_ends", tables).squeeze()
    assert row[["A", "B_both_ends", "decrease_both_ends_percent", "B", "decrease_percent"]].tolist() == [0] * 5


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    found = norms | measured.by_gradients("spectrum", norms)
    return found | measured.by_gradients("trimmed_eigenvalues", found, trimmed_eigenvalues={"fraction": 0.25})


def test_a_and_b_are_those_of_trimmed_eigenvalues_and_the_fraction_is_theirs(tables):
    needed = {name: tables[name] for name in ("spectrum", "projections")}
    table = measured.by_tables("trimmed_both_ends", needed, trimmed_eigenvalues={"fraction": 0.25})
    expected = tables["trimmed"].set_index(["step", "layer"])
    table = table.set_index(["step", "layer"])
    np.testing.assert_allclose(table[["A", "B"]], expected.loc[table.index, ["A", "B"]], rtol=1e-12)
    each = int(0.125 * measured.SAMPLES)
    assert (table["left_out"] == 2 * each).all()
    for (step, layer), row in table.iterrows():
        a_x = np.sort(measured.gradients(step)[layer] @ _top(step, layer))
        assert row["B_both_ends"] == pytest.approx(np.square(a_x[each:-each]).mean(), rel=1e-3)


def _top(step, layer):
    return np.linalg.svd(measured.gradients(step)[layer], full_matrices=False)[2][0]
