"""Models that do what few do: write into their inputs, differentiate inside, or mix precisions."""

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import UnsupportedModelError
from tests.gradients.parts import Lambda
from tests.truth import dense_gradients

SAMPLES = 40
LABELS = torch.arange(SAMPLES) % 3


def assert_exact(model, images, labels, loss=None):
    truth = dense_gradients(model, images.clone(), labels, loss)
    found = fishertail.gradient_norms(model, images, labels, loss=loss)
    for number, layer in enumerate(found.layers):
        np.testing.assert_allclose(found.per_layer[:, number], np.linalg.norm(truth[layer], axis=1), rtol=1e-5)


OVERWRITING = {
    "ReLU": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)), torch.randn(SAMPLES, 6)),
    "scaling": (lambda: Lambda(lambda m, x: m.o(x.mul_(2).sub_(1)), o=nn.Linear(6, 3)), torch.randn(SAMPLES, 6)),
    "tokens": (
        lambda: Lambda(lambda m, x: m.o(m.e(x.clamp_(0)).mean(1)), e=nn.Embedding(9, 6), o=nn.Linear(6, 3)),
        torch.randint(-1, 9, (SAMPLES, 5)),
    ),
}


@pytest.mark.parametrize("name", OVERWRITING)
def test_data_stay_as_they_are_where_the_model_overwrites_its_inputs(name):
    torch.manual_seed(0)
    make, images = OVERWRITING[name]
    before = images.clone()
    assert_exact(make(), images, LABELS)
    fishertail.fisher_eigenpairs(make(), images, LABELS)
    assert torch.equal(images, before)


def forces(m, x):
    def energy(one):
        return m.b(m.a(one).tanh()).squeeze(-1)

    return torch.func.vmap(torch.func.grad(energy))(x)


def jacobians(transform):
    return lambda m, x: torch.func.vmap(transform(lambda one: m.b(m.a(one).tanh())))(x).squeeze(1)


DIFFERENTIATING = {
    "grad": forces,
    "jacrev": jacobians(torch.func.jacrev),
    "jacfwd": jacobians(torch.func.jacfwd),
}


@pytest.mark.parametrize("name", DIFFERENTIATING)
def test_models_that_return_derivatives_by_their_inputs(name):
    torch.manual_seed(0)
    model = Lambda(DIFFERENTIATING[name], a=nn.Linear(6, 8), b=nn.Linear(8, 1))
    squared = lambda outputs, targets: (outputs - targets).square().sum()  # noqa: E731
    assert_exact(model, torch.randn(SAMPLES, 6), torch.randn(SAMPLES, 6), squared)


def test_attention_over_keys_and_values_of_other_widths():
    """Whose assertions about shapes are no errors that torch documents."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, kdim=5, vdim=5, batch_first=True)
    model = Lambda(
        lambda m, x: m.o(m.a(x[:, :4], x[:, 4:, :5], x[:, 4:, :5])[0].mean(1)), a=attention, o=nn.Linear(6, 3)
    )
    assert_exact(model, torch.randn(SAMPLES, 9, 6), LABELS)


def test_parameters_of_two_precisions_are_refused_by_name():
    model = Lambda(lambda m, x: m.b(m.a(x).double()), a=nn.Linear(6, 8), b=nn.Linear(8, 3).double())
    with pytest.raises(UnsupportedModelError, match=r"one precision expected, found .*float32 .*float64 \('b"):
        fishertail.gradient_norms(model, torch.randn(SAMPLES, 6), LABELS)


@pytest.mark.parametrize("depth", [25, 30])
def test_gradients_whose_squares_vanish_in_float32(depth):
    """The first layers of a deep network of sigmoids; at a depth of 30 they are near 1e-26."""
    torch.manual_seed(0)
    hidden = [part for _ in range(depth) for part in (nn.Linear(20, 20), nn.Sigmoid())]
    model, images = nn.Sequential(*hidden, nn.Linear(20, 3)), torch.randn(SAMPLES, 20)
    truth = dense_gradients(model, images, LABELS)
    found = fishertail.gradient_norms(model, images, LABELS)
    assert np.linalg.norm(truth["0"], axis=1).max() < 1e-19
    for number, layer in enumerate(found.layers):
        np.testing.assert_allclose(found.per_layer[:, number], np.linalg.norm(truth[layer], axis=1), rtol=1e-4)
    pairs = fishertail.fisher_eigenpairs(model, images, LABELS, layers=["0"])["0"]
    assert pairs.eigenvalues[0] == pytest.approx(np.linalg.norm(truth["0"], 2) ** 2 / SAMPLES, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-20])
@pytest.mark.parametrize("name", ["by a rule", "over positions", "without a rule"])
def test_a_branch_of_tiny_weight(name, scale):
    torch.manual_seed(0)
    branch = {
        "by a rule": lambda m, x: m.a(x[:, 0]),
        "over positions": lambda m, x: m.a(x).tanh().mean(1),
        "without a rule": lambda m, x: m.a(x[:, 0]),
    }[name]
    layer = nn.Linear(6, 6)
    model = Lambda(
        lambda m, x: m.o(x[:, 0] + scale * branch(m, x)),
        a=nn.utils.parametrizations.weight_norm(layer) if name == "without a rule" else layer,
        o=nn.Linear(6, 3),
    )
    assert_exact(model, torch.randn(SAMPLES, 7, 6), LABELS)
