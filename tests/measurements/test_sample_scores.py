"""EL2N against the softmax in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from fishertail import analyse_run
from fishertail.errors import UnsupportedModelError
from tests.measurements import measured


def el2n(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(N,) float64, with p_y - 1 as minus the sum of the others."""
    p = logits.double().softmax(1)
    p[torch.arange(len(p)), labels] = 0
    p[torch.arange(len(p)), labels] = -p.sum(1)
    return p.norm(dim=1).numpy()


def test_of_every_sample_at_every_checkpoint():
    table, (images, labels) = measured.by_gradients("sample_scores")["sample_scores"], measured.samples()
    assert set(table["step"]) == set(measured.STEPS)
    for step, part in table.groupby("step"):
        model = measured.network()
        model.load_state_dict(measured.weights()[step])
        with torch.no_grad():
            expected = el2n(model.double()(images.double()), labels)
        np.testing.assert_allclose(part.sort_values("sample")["el2n"], expected, rtol=1e-3, atol=1e-7)


def test_fitted_samples_keep_their_digits():
    images = torch.tensor([[0.0], [10.0], [40.0], [-40.0]])
    model = nn.Linear(1, 2)
    nn.init.constant_(model.bias, 0)
    model.weight.data = torch.tensor([[1.0], [0.0]])
    found = analyse_run(
        model, {0: model.state_dict()}, images, torch.zeros(4, dtype=torch.long), measurements=["sample_scores"]
    ).tables["sample_scores"]
    q = [0.5, 1 / (1 + np.exp(10.0)), 1 / (1 + np.exp(40.0)), 1 / (1 + np.exp(-40.0))]
    np.testing.assert_allclose(found["el2n"], np.sqrt(2) * np.array(q), rtol=1e-6)


def test_another_loss_is_refused_before_anything_is_computed():
    model, (images, labels) = nn.Linear(6, 3), measured.samples()
    with pytest.raises(UnsupportedModelError, match="sample_scores: plain cross entropy expected"):
        analyse_run(model, {0: model.state_dict()}, images, labels, loss=nn.MSELoss(), measurements=["sample_scores"])


def test_samples_with_several_labels_are_refused():
    model = nn.Linear(2, 3)
    images, labels = torch.randn(4, 5, 2), torch.zeros(4, 5, dtype=torch.long)
    with pytest.raises(UnsupportedModelError, match="one class for each sample expected"):
        analyse_run(model, {0: model.state_dict()}, images, labels, measurements=["sample_scores"])
