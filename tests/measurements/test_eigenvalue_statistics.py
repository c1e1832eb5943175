"""Mean, second moment and largest eigenvalue against a dense Fisher matrix."""

import numpy as np
import pytest
import torch

from tests.measurements import measured
from tests.measurements.test_true_fisher import LAYERS, rows_of_classes


@pytest.fixture(scope="module")
def found():
    return measured.by_gradients("eigenvalue_statistics")["eigenvalue_statistics"].set_index(["step", "layer"])


@pytest.mark.parametrize("layer", LAYERS)
def test_all_three_of_a_dense_matrix(found, layer):
    for step in measured.STEPS:
        rows, row = rows_of_classes(step, layer), found.loc[(step, layer)]
        flat = rows.reshape(-1, rows.shape[2])
        fisher = flat.T @ flat / len(rows)
        assert row["parameters"] == len(fisher)
        assert row["mean"] == pytest.approx(np.trace(fisher) / len(fisher), rel=1e-5)
        assert row["second_moment"] == pytest.approx(np.trace(fisher @ fisher) / len(fisher), rel=1e-5)
        assert row["largest"] == pytest.approx(np.linalg.eigvalsh(fisher)[-1], rel=1e-5)
        assert row["rate"] == pytest.approx(2 / np.linalg.eigvalsh(fisher)[-1], rel=1e-5)
        assert row["samples"] == measured.SAMPLES


def test_of_some_samples_it_is_their_own_matrix():
    options = {"samples": 7, "layers": ["second", "nowhere"]}
    table = measured.by_gradients("eigenvalue_statistics", eigenvalue_statistics=options)["eigenvalue_statistics"]
    drawn = torch.randperm(measured.SAMPLES, generator=torch.Generator().manual_seed(0))[:7].numpy()
    assert table["layer"].unique().tolist() == ["second"]
    for row in table.itertuples():
        rows = rows_of_classes(row.step, "second")[drawn]
        fisher = np.einsum("xcp,xcq->pq", rows, rows) / 7
        assert row.largest == pytest.approx(np.linalg.eigvalsh(fisher)[-1], rel=1e-5)
        assert row.samples == 7


def test_a_network_that_is_dead_allows_any_rate(monkeypatch):
    dead = {name: torch.zeros_like(tensor) for name, tensor in measured.weights()[0].items()}
    certain = dead | {"second.bias": torch.tensor([4000.0, 0.0, 0.0])}
    monkeypatch.setattr(measured, "weights", lambda: {0: dead, 3: certain})
    table = measured.by_gradients("eigenvalue_statistics")["eigenvalue_statistics"].set_index(["step", "layer"])
    assert table.loc[(0, "first"), "largest"] == 0  # nothing reaches it
    assert table.loc[(0, "second"), "largest"] == pytest.approx(1 / 3)  # (I - 1 1^T / 3) / 3 of the bias
    assert (table.loc[3][["mean", "second_moment", "largest"]] == 0).all(axis=None)
    assert (table.loc[3]["rate"] == np.inf).all()
