"""Half the squared distance from the label as a one-hot vector, against the formula and a float64 loop over samples."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fishertail.fisher.eigenpairs import fisher_eigenpairs
from fishertail.gradients.matrix import GradientMatrix, gradient_norms
from fishertail.gradients.squared_error import squared_error, squared_errors
from tests.truth import dense_eigenvalues, dense_gradients

NUMBERS = st.floats(-100, 100, width=32)


def by_formula(outputs, label):
    """In float64, class by class, on one sample."""
    squares = [(z - float(c == int(label))) ** 2 for c, z in enumerate(outputs.double().flatten())]
    return torch.stack(squares).sum() / 2


def truth_loss(outputs, labels):
    return by_formula(outputs[0], labels[0])


@given(outputs=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5), data=st.data())
def test_it_is_half_the_sum_over_the_classes(outputs, data):
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(outputs), max_size=len(outputs)))
    outputs, labels = torch.tensor(outputs), torch.tensor(labels)
    expected = torch.stack([by_formula(*pair) for pair in zip(outputs, labels, strict=True)]).double()
    found = squared_errors(outputs, labels)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(squared_error(outputs.double(), labels), expected.mean(), rtol=1e-12, atol=0)


def test_an_output_on_its_label_costs_nothing():
    assert squared_errors(torch.eye(3), torch.arange(3)).tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    layers = {"conv": nn.Conv2d(1, 3, 3), "relu": nn.ReLU(), "flatten": nn.Flatten(), "head": nn.Linear(48, 4)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model, torch.randn(20, 1, 6, 6), torch.arange(20) % 4


def test_gradients_norms_and_losses_are_those_of_a_float64_loop_over_samples(case):
    model, inputs, labels = case
    expected = dense_gradients(model, inputs, labels, truth_loss)
    found = gradient_norms(model, inputs, labels, loss=squared_error)
    for column, layer in enumerate(("conv", "head")):
        np.testing.assert_allclose(found.per_layer[:, column], np.linalg.norm(expected[layer], axis=1), rtol=1e-5)
    outputs = model(inputs).detach()
    losses = [float(by_formula(*pair)) for pair in zip(outputs, labels, strict=True)]
    np.testing.assert_allclose(found.loss, losses, rtol=1e-5)
    assert found.correct.tolist() == (outputs.argmax(1) == labels).tolist()
    with GradientMatrix(model, inputs, labels, loss=squared_error) as matrix:
        mean = matrix.mean()
    for layer, gradients in expected.items():
        np.testing.assert_allclose(mean[layer].numpy(), gradients.mean(0), rtol=1e-4, atol=1e-6)


def test_the_largest_eigenvalue_is_that_of_the_dense_matrix(case):
    model, inputs, labels = case
    expected = dense_gradients(model, inputs, labels, truth_loss)
    found = fisher_eigenpairs(model, inputs, labels, layers=["conv", "head", "network"], k=2, loss=squared_error)
    of_network = expected | {"network": np.concatenate(list(expected.values()), axis=1)}
    for layer, gradients in of_network.items():
        np.testing.assert_allclose(found[layer].eigenvalues, dense_eigenvalues(gradients)[:2], rtol=1e-4)
