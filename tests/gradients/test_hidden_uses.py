"""Uses of a parameter whose derivative is 0, tiny or NaN for the samples of the probe: values would not show them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from torch.nn.utils.parametrizations import weight_norm

import fishertail
from fishertail.gradients.matrix import GradientMatrix
from tests.gradients.parts import Lambda
from tests.truth import dense_gradients

SAMPLES = 60


def flagged() -> torch.Tensor:
    """Samples of which three, that the probe does not take, have a 1 in front."""
    samples = torch.randn(SAMPLES, 9)
    samples[:, 0] = 0
    samples[[4, 17, 50], 0] = 1
    return samples


def scale(length: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(length) + 0.5)


def of_flag(m, x):
    flag, x = x[:, :1], x[:, 1:]
    return m.o(x + flag * (x * m.s).tanh())


def with_a_second_use(m, x):
    flag, x = x[:, :1], x[:, 1:]
    return m.o(linear(x, m.a.weight) + flag * (x @ m.a.weight))


def with_a_tied_use(m, x):
    flag, x = x[:, :1], x[:, 1:]
    return m.o(m.a(x) + flag * m.w(x) @ m.a.parametrizations.weight.original1)


def by_two_heads(m, x):
    return torch.where(x[:, :1] > 0, m.a(x[:, 1:]), m.b(x[:, 1:]))


def wide_and_deep(m, x):
    return m.wide(x * 1e6) + m.o((x[:, 2:] * m.s).tanh())


def with_a_small_branch(m, x):
    return m.o(x[:, 1:] + 1e-7 * m.b(m.w(x[:, 1:]).tanh()))


def steps_first_in_a_small_branch(m, x):
    folded = x[:, 1:].reshape(-1, 4, 2).movedim(1, 0).reshape(-1, 2)
    hidden = m.a(folded).tanh().reshape(4, -1, 2).movedim(0, 1).flatten(1)
    return m.o(x[:, 1:] + 1e-8 * hidden)


def transposed(m, x):
    return m.o(m.t(x[:, 1:].reshape(-1, 2, 4)).relu().flatten(1))


def rarely_active() -> nn.ConvTranspose1d:
    layer = nn.ConvTranspose1d(2, 2, 3, padding=1)
    nn.init.constant_(layer.bias, -0.8)
    return layer


def linear_8(width: int = 8) -> nn.Linear:
    return nn.Linear(8, width)


NETWORKS = {
    "a scale": lambda: Lambda(of_flag, s=scale(8), o=linear_8(3)),
    "a weight with a rule, too": lambda: Lambda(with_a_second_use, a=nn.Linear(8, 8, bias=False), o=linear_8(3)),
    "a weight of two modules": lambda: Lambda(with_a_tied_use, a=weight_norm(linear_8()), w=linear_8(), o=linear_8(3)),
    "a layer without a rule": lambda: Lambda(by_two_heads, a=weight_norm(linear_8(3)), b=linear_8(3)),
    "beside large features": lambda: Lambda(wide_and_deep, wide=nn.Linear(9, 3), s=scale(7), o=nn.Linear(7, 3)),
    "a small branch": lambda: Lambda(with_a_small_branch, w=weight_norm(linear_8()), b=linear_8(), o=linear_8(3)),
    "a small branch, steps first": lambda: Lambda(steps_first_in_a_small_branch, a=nn.Linear(2, 2), o=linear_8(3)),
    "rarely active": lambda: Lambda(transposed, t=rarely_active(), o=linear_8(3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_gradient_is_exact(name):
    torch.manual_seed(0)
    model, samples, labels = NETWORKS[name](), flagged(), torch.arange(SAMPLES) % 3
    truth = dense_gradients(model, samples, labels)
    with GradientMatrix(model, samples, labels, batch_size=17) as matrix:
        batches = list(matrix.batches())
    for layer, expected in truth.items():
        dense = [batch.rows[layer].dense() for batch in batches]
        found = np.concatenate([(rows.gradients * rows.scale[:, None]).numpy() for rows in dense])
        assert np.abs(expected).max() > 0
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_samples_that_are_not_finite_do_not_hide_a_use_from_the_probe():
    torch.manual_seed(0)
    model = Lambda(lambda m, x: m.o((x * m.s).tanh()), s=scale(9), o=nn.Linear(9, 3))
    samples, labels = torch.randn(SAMPLES, 9), torch.arange(SAMPLES) % 3
    samples[[0, SAMPLES - 1]] = torch.nan
    truth = dense_gradients(model, samples[1:-1], labels[1:-1])
    found = fishertail.gradient_norms(model, samples, labels)
    for number, layer in enumerate(found.layers):
        np.testing.assert_allclose(found.per_layer[1:-1, number], np.linalg.norm(truth[layer], axis=1), rtol=1e-5)


def test_a_use_without_a_rule_in_a_later_batch_alone():
    """The probe takes the first, the middle and the last sample, of which none has a 1 in front."""
    torch.manual_seed(0)

    def forward(m, x):
        hidden = linear(x[:, 1:], m.a.weight)
        return m.o(hidden + x[:, 1:] @ m.a.weight if (x[:, 0] > 0).any() else hidden)

    model, labels = Lambda(forward, a=nn.Linear(8, 8, bias=False), o=linear_8(3)), torch.arange(SAMPLES) % 3
    samples = flagged()
    truth = dense_gradients(model, samples, labels)
    found = fishertail.gradient_norms(model, samples, labels, batch_size=1)
    for number, layer in enumerate(found.layers):
        np.testing.assert_allclose(found.per_layer[:, number], np.linalg.norm(truth[layer], axis=1), rtol=1e-5)


@pytest.mark.parametrize("error", [AssertionError("of this shape"), Exception("of any kind")])
def test_a_module_may_refuse_expanded_parameters_with_any_error(error):
    def forward(m, x):
        if m.s.ndim != 1:
            raise error
        return m.o((x[:, 1:] * m.s).tanh())

    torch.manual_seed(0)
    model, labels = Lambda(forward, s=scale(8), o=linear_8(3)), torch.arange(SAMPLES) % 3
    truth = dense_gradients(model, flagged_ := flagged(), labels)
    found = fishertail.gradient_norms(model, flagged_, labels)
    for number, layer in enumerate(found.layers):
        np.testing.assert_allclose(found.per_layer[:, number], np.linalg.norm(truth[layer], axis=1), rtol=1e-5)
