"""What the simulated accelerator is asked, asked of a GPU, whose rounding is its own."""

import numpy as np
import pytest
import torch

from tests.device import computing
from tests.gradients.layers import CASES

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def convolutions_in_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("case", CASES)
def test_norms_of_every_kind_of_layer(case):
    expected, found = computing.norms_of_case(case, "cuda")
    assert np.allclose(found.per_layer, expected.per_layer, rtol=1e-3, atol=1e-4 * expected.per_layer.max())


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_training(name):
    expected, _, _ = computing.trained(name, "cpu")
    metrics, _, as_before = computing.trained(name, "cuda")
    assert as_before
    assert np.allclose([m.validation_loss for m in metrics], [m.validation_loss for m in expected], rtol=1e-3)


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_analyse_run(device):
    expected, found = computing.analysed("cpu"), computing.analysed(device)
    assert np.allclose(found["spectrum"]["eigenvalue"], expected["spectrum"]["eigenvalue"], rtol=1e-3)
