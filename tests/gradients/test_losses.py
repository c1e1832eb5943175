"""Losses of the user's own: each is differentiated by all that it depends on, or refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fishertail
from fishertail.errors import UnsupportedModelError
from tests.truth import dense_gradients

SAMPLES = 20


@pytest.fixture
def data():
    torch.manual_seed(0)
    return nn.Linear(4, 3), torch.randn(SAMPLES, 4), torch.randn(SAMPLES, 3)


def norms_of(gradients):
    return np.linalg.norm(np.concatenate(list(gradients.values()), axis=1), axis=1)


def penalised(model):
    return lambda outputs, targets: functional.mse_loss(outputs, targets) + model.weight.square().sum()


REFUSED = {
    "parameters besides": (lambda model: penalised(model), "depends on parameters besides"),
    "parameters of its own": (
        lambda model: lambda outputs, targets: nn.Linear(3, 1)(outputs - targets).sum(),
        "depends on parameters besides",
    ),
    "random": (
        lambda model: lambda outputs, targets: (functional.dropout(outputs, 0.5) - targets).square().sum(),
        "one without random numbers",
    ),
    "of integers": (
        lambda model: lambda outputs, targets: (outputs.argmax(1) != targets.argmax(1)).float().mean(),
        "one that can be differentiated",
    ),
    "of the labels alone": (lambda model: lambda outputs, targets: targets.sum(), "one that can be differentiated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_gradient_by_the_outputs_shows_is_refused(name, data):
    model, images, labels = data
    loss, reason = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=f"loss: .*{reason}"):
        fishertail.gradient_norms(model, images, labels, loss=loss(model))


def test_frozen_parameters_besides_are_constants(data):
    model, images, labels = data
    frozen = nn.Linear(3, 3).requires_grad_(False)
    loss = lambda outputs, targets: (frozen(outputs.float()).to(outputs) - targets).square().sum()  # noqa: E731
    expected = norms_of(dense_gradients(model, images, labels.double(), loss))
    np.testing.assert_allclose(fishertail.gradient_norms(model, images, labels, loss=loss).network, expected, rtol=1e-5)


def test_a_loss_may_be_constant_for_some_samples_and_overwrite_the_outputs(data):
    """Of the first samples the labels are ignored, by a branch that torch.func does not know."""
    model, images, labels = data
    labels[:3] = 0

    def loss(outputs, targets):
        if not bool(targets.any()):
            return torch.zeros(())
        return outputs.sub_(targets).square().sum()

    expected = norms_of(dense_gradients(model, images, labels.double(), lambda o, t: loss(o.clone(), t)))
    found = fishertail.gradient_norms(model, images, labels, loss=loss).network
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found[:3] == 0).all()
    assert (found[3:] > 0).all()


@pytest.mark.parametrize(
    "labels",
    [torch.randn(SAMPLES, 3), torch.ones(SAMPLES, 3), torch.eye(3)[torch.arange(SAMPLES) % 3] + torch.eye(3)[0] / 2],
    ids=["of a regression", "several", "too large"],
)
def test_numbers_that_are_no_probabilities_need_a_loss(labels, data):
    model, images, _ = data
    with pytest.raises(ValueError, match=r"labels: .* with a sum of 1 .* pass loss=\.\.\., such as torch.nn.MSELoss"):
        fishertail.gradient_norms(model, images, labels)
    assert (fishertail.gradient_norms(model, images, labels, loss=nn.CrossEntropyLoss()).network > 0).all()


def test_a_regression_with_one_output_needs_a_loss(data):
    _, images, _ = data
    with pytest.raises(ValueError, match=r"labels: .* pass loss="):
        fishertail.gradient_norms(nn.Linear(4, 1), images, torch.ones(SAMPLES, 1))


@pytest.mark.parametrize("labels", [torch.rand(SAMPLES, 3).softmax(1), torch.rand(SAMPLES, 3).softmax(1).half()])
def test_probabilities_are_taken(labels, data):
    model, images, _ = data
    expected = norms_of(dense_gradients(model, images, labels.double()))
    np.testing.assert_allclose(fishertail.gradient_norms(model, images, labels).network, expected, rtol=1e-5)


def test_one_output_with_integer_labels_tells_nothing_about_correctness(data):
    _, images, _ = data
    loss = lambda outputs, targets: functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs))  # noqa: E731
    found = fishertail.gradient_norms(nn.Linear(4, 1), images, torch.arange(SAMPLES) % 2, loss=loss)
    assert found.correct is None


def test_class_weights_do_not_cancel_for_probabilities(data):
    model, images, _ = data
    labels, weight = torch.rand(SAMPLES, 3).softmax(1), torch.tensor([1.0, 2.0, 3.0])
    expected = dense_gradients(model, images, labels.double(), nn.CrossEntropyLoss(weight=weight.double()))
    found = fishertail.gradient_norms(model, images, labels, loss=nn.CrossEntropyLoss(weight=weight))
    np.testing.assert_allclose(found.network, norms_of(expected), rtol=1e-5)
