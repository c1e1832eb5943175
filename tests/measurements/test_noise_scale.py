"""The mean gradient and its noise against gradients of single samples in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fishertail.gradients.matrix import GradientMatrix
from fishertail.measurements import noise_scale
from fishertail.measurements.measurement import OpenCheckpoint, measurements
from tests.measurements import measured
from tests.truth import dense_gradients


@pytest.fixture(scope="module")
def found():
    return measured.by_gradients("noise_scale", measured.by_gradients("norms"))


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_mean_and_covariance_in_every_layer(found, layer):
    rows = found["noise_scale"].set_index(["step", "layer"])
    for step in measured.STEPS:
        row, gradients = rows.loc[(step, layer)], measured.gradients(step)[layer]
        mean, spread = gradients.mean(0), np.cov(gradients.T, bias=True).trace()
        assert row["mean_gradient_norm"] == pytest.approx(np.linalg.norm(mean), rel=1e-5)
        assert row["trace"] == pytest.approx(np.square(gradients).sum(1).mean(), rel=1e-5)
        assert row["covariance_trace"] == pytest.approx(spread, rel=1e-5)
        assert row["noise_scale"] == pytest.approx(spread / (mean @ mean), rel=3e-5)
        assert row["signal_to_noise"] == pytest.approx(np.sqrt(mean @ mean / spread), rel=3e-5)
        tensor = found["mean_gradients"][f"step{step:08d}/{layer}"]
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor, mean, atol=3e-6 * np.abs(gradients).mean(0).max())


def at_once(model, inputs, labels, **options):
    """What is measured of one checkpoint: the row of the network, and the mean gradients."""
    with GradientMatrix(model, inputs, labels, **options) as matrix:
        at = OpenCheckpoint(0, {}, model, options.get("loss"), matrix, "cpu", 1e9)
        norms = measurements()["norms"].measure(at, {})
        found = noise_scale.measure(replace(at, tables=norms), {})
    return found["noise_scale"].set_index("layer").loc["network"], found["mean_gradients"]


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_the_batches_do_not_matter(found, batch_size):
    model = measured.network()
    model.load_state_dict(measured.weights()[8])
    row, means = at_once(model, *measured.samples(), batch_size=batch_size)
    expected = measured.gradients(8)["network"].mean(0)
    np.testing.assert_allclose(means["network"], expected, atol=3e-6 * np.abs(expected).max())
    assert row["noise_scale"] == pytest.approx(found["noise_scale"].iloc[-1]["noise_scale"], rel=1e-5)


def test_convolutions_and_another_loss():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    inputs, targets = torch.randn(11, 2, 5, 5), torch.randn(11, 2)
    row, means = at_once(model, inputs, targets, loss=nn.functional.mse_loss, batch_size=4)
    truth = dense_gradients(model, inputs, targets, nn.functional.mse_loss)
    gradients = np.concatenate(list(truth.values()), axis=1)
    for layer, expected in truth.items():
        np.testing.assert_allclose(means[layer], expected.mean(0), atol=3e-6 * np.abs(expected).max())
    assert row["covariance_trace"] == pytest.approx(np.cov(gradients.T, bias=True).trace(), rel=1e-5)


def test_samples_that_are_fitted_have_an_exact_mean():
    """Where autograd in float32 finds p - 1 = 0, or a multiple of 6e-8."""
    model = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.weight[:, :3] = 20 * torch.eye(3)
    inputs, labels = torch.nn.functional.one_hot(torch.arange(12) % 3, 4).float(), torch.arange(12) % 3
    _, means = at_once(model, inputs, labels)
    small = 1 / (1 + 2 * np.exp(-20.0)) * np.exp(-20.0)  # probability of a wrong class
    expected = np.zeros((3, 4))
    expected[:, :3] = (small * (1 - 3 * np.eye(3))) / 3
    np.testing.assert_allclose(means[""].reshape(3, 4), expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("margins", [(200.0, 200.0, 200.0), (200.0, 1.0, 300.0)])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_mean_beyond_the_range_of_float32(margins, batch_size):
    """The bias has the derivatives by the logits as its gradient, here of 1e-87; the last sample is ignored."""
    model = nn.Sequential(nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [0.0]]))
        model[0].bias.zero_()
    inputs, labels = torch.tensor([*margins, 0.0])[:, None], torch.tensor([0, 0, 0, -100])
    with GradientMatrix(model, inputs, labels, batch_size=batch_size) as matrix:
        mean = matrix.mean()["0"][-2:]
    p = torch.tensor(margins, dtype=torch.float64).neg().sigmoid().sum() / 4
    torch.testing.assert_close(mean, torch.stack([-p, p]), rtol=1e-5, atol=0.0)


class TwoBiases(nn.Module):
    """Autograd gives both the same tensor as their gradient."""

    def __init__(self):
        super().__init__()
        self.linear, self.a, self.b = nn.Linear(4, 3), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def forward(self, inputs):
        return self.linear(inputs) + (self.a + self.b)


def test_parameters_that_are_added_up_keep_their_own_mean():
    torch.manual_seed(0)
    model, inputs, labels = TwoBiases(), torch.randn(10, 4), torch.arange(10) % 3
    with GradientMatrix(model, inputs, labels, batch_size=3) as matrix:
        mean = matrix.mean()
    for layer, gradients in dense_gradients(model, inputs, labels).items():
        np.testing.assert_allclose(mean[layer], gradients.mean(0), atol=1e-7)


def test_gradients_that_are_zero_and_a_single_sample():
    dead = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.constant_(dead[0].bias, -1e3)
    inputs, labels = torch.randn(6, 4), torch.arange(6) % 2
    with GradientMatrix(dead, inputs, labels) as matrix:
        at = OpenCheckpoint(0, {}, dead, None, matrix, "cpu", 1e9)
        table = noise_scale.measure(replace(at, tables=measurements()["norms"].measure(at, {})), {})["noise_scale"]
    first = table.set_index("layer").loc["0"]
    assert first["mean_gradient_norm"] == first["trace"] == first["covariance_trace"] == 0
    assert np.isnan(first["noise_scale"])
    assert np.isnan(first["signal_to_noise"])
    row, _ = at_once(nn.Linear(4, 2), inputs[:1], labels[:1])
    assert (row["covariance_trace"], row["noise_scale"], row["signal_to_noise"]) == (0, 0, np.inf)
