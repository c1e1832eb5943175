"""Networks that have diverged: what is not finite is said to be so, and all else is still measured."""

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from tests.truth import dense_gradients

MEASURED = [
    "norms", "spectrum", "outliers", "sample_scores", "noise_scale", "alignment", "hessian", "true_fisher",
    "eigenvalue_statistics", "eigenvalue_count", "trimmed_eigenvalues", "ax_histogram", "outlier_samples", "fit",
]  # fmt: skip


def dense(images):
    return nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 8), nn.ReLU(), nn.Linear(8, 10))


def convolutional(images):
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10)).eval()


@pytest.fixture
def some(digits):
    torch.manual_seed(0)
    images, labels = digits.training_data()
    return images[:30], labels[:30]


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("which", ["all", "the last bias"])
def test_norms_are_infinite_and_f_is_not_defined_where_weights_are_nan(some, make, which):
    model = make(some[0])
    for parameter in [list(model.parameters())[-1]] if which == "the last bias" else model.parameters():
        parameter.data.fill_(torch.nan)
    assert np.isinf(fishertail.gradient_norms(model, *some).per_layer).all()
    for pairs in fishertail.fisher_eigenpairs(model, *some).values():
        assert np.isinf(pairs.eigenvalues).all()
        assert not pairs.converged.any()
        assert not pairs.projections.any()


def test_samples_whose_gradients_are_finite_keep_them(some):
    """An embedding that is NaN concerns the samples that use it, of which the first that is compared is one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(4, 10))
    labels = some[1]
    tokens = ((labels + labels[0]) % 10)[:, None]
    whole = dense_gradients(model, tokens, labels)
    model[0].weight.data[tokens[0]] = torch.nan
    found, broken = fishertail.gradient_norms(model, tokens, labels), (tokens == tokens[0])[:, 0].numpy()
    assert np.isinf(found.per_layer[broken]).all()
    for column, layer in enumerate(found.layers):
        truth = np.linalg.norm(whole[layer], axis=1)[~broken]
        np.testing.assert_allclose(found.per_layer[~broken, column], truth, rtol=1e-5)


def test_a_run_is_measured_to_its_end(some):
    model = dense(some[0])
    weights = {0: model.state_dict(), 1: {name: tensor * torch.nan for name, tensor in model.state_dict().items()}}
    found = fishertail.analyse_run(model, weights, *some, measurements=MEASURED, device="cpu", steps_per_epoch=1)
    assert found.failures.empty
    assert np.isinf(found.spectrum.query("step == 1")["eigenvalue"]).all()
    assert np.isfinite(found.spectrum.query("step == 0")["eigenvalue"]).all()
