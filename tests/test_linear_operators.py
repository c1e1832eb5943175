"""F and G as SciPy's operators, against dense gradients in float64."""

import copy

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh, svds
from torch import nn

import fishertail
from tests.truth import dense_gradients

N = 23


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def samples():
    inputs = torch.randn(N, 6, generator=torch.Generator().manual_seed(1))
    inputs[:2] *= 30
    return inputs, torch.arange(N) % 3


def dense(model, samples):
    """G (N, P) float64."""
    return np.concatenate(list(dense_gradients(model, *samples).values()), axis=1)


def columns(size, count):
    return np.random.default_rng(2).standard_normal((size, count))


@pytest.mark.parametrize("budget", [None, 9000], ids=["all kept", "few kept"])
def test_products_of_f_and_g(model, samples, budget):
    operator = fishertail.FisherOperator(model, *samples, batch_size=7, memory_budget=budget)
    truth = dense(model, samples)
    fisher, size = truth.T @ truth / N, truth.shape[1]
    assert operator.shape == (size, size)
    assert operator.gradients.shape == (N, size)
    for _ in range(2):  # rows as computed, and as kept
        for count in (1, 3, 40):  # more columns than are taken together
            right, left = columns(size, count), columns(N, count)
            close(operator @ right, fisher @ right)
            close(operator.gradients @ right, truth @ right)
            close(operator.gradients.T @ left, truth.T @ left)
    close(operator.T @ right[:, 0], fisher @ right[:, 0])
    close(operator.gradients.rmatvec(left[:, 0]), truth.T @ left[:, 0])


def close(found, expected, tolerance=3e-6):
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_float64_models_lose_nothing_and_tiny_vectors_do_not_vanish(model, samples):
    inputs, labels = samples
    exact = fishertail.FisherOperator(model.double(), inputs.double(), labels, batch_size=7)
    truth = dense(model, samples)
    vector = columns(truth.shape[1], 1)[:, 0]
    np.testing.assert_allclose(exact @ vector, truth.T @ (truth @ vector) / N, rtol=1e-11)
    single = fishertail.FisherOperator(model.float(), *samples)
    close(single @ (1e-60 * vector), 1e-60 * (single @ vector))


def test_solvers_agree_with_fisher_eigenpairs(model, samples):
    operator = fishertail.FisherOperator(model, *samples)
    pairs = fishertail.fisher_eigenpairs(model, *samples, layers=["network"], k=3, rtol=1e-6)["network"]
    values, vectors = eigsh(operator, k=3)
    np.testing.assert_allclose(values[::-1], pairs.eigenvalues, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(vectors.T[::-1] * pairs.eigenvectors, axis=1)), 1, rtol=1e-5)
    singular = svds(operator.gradients, k=3, return_singular_vectors=False, random_state=0)
    np.testing.assert_allclose(np.sort(singular)[::-1] ** 2 / N, pairs.eigenvalues, rtol=1e-5)


def test_slices_are_the_layers_and_some_layers_can_be_asked_for(model, samples):
    whole = fishertail.FisherOperator(model, *samples)
    assert whole.slices == {"0": slice(0, 35), "2": slice(35, 53)}
    assert fishertail.FisherOperator(model, *samples, layers=["network"]).slices == whole.slices
    part = fishertail.FisherOperator(model, *samples, layers=["2"])
    assert part.layers == ("2",)
    truth = dense_gradients(model, *samples)["2"]
    close(part @ np.eye(18), truth.T @ truth / N)
    padded = np.zeros(53)
    padded[whole.slices["2"]] = 1
    close((whole @ padded)[whole.slices["2"]], part @ np.ones(18))
    with pytest.raises(ValueError, match="layers: among 0, 2, network expected, found 'fc4'"):
        fishertail.FisherOperator(model, *samples, layers=["fc4"])


def test_one_sample_and_gradients_of_zero(model, samples):
    inputs, labels = samples
    one = fishertail.FisherOperator(model, inputs[:1], labels[:1])
    gradient = dense(model, (inputs[:1], labels[:1]))[0]
    close(one @ gradient, gradient * (gradient @ gradient), 1e-5)  # no other sample averages the rounding of this one
    none = fishertail.FisherOperator(model, inputs, torch.full((N,), -100))
    assert not (none @ np.ones(53)).any()
    assert not (none.gradients @ np.ones(53)).any()


def test_the_model_is_left_as_it_was_and_must_stay_so(model, samples):
    before = copy.deepcopy(model.state_dict())
    operator = fishertail.FisherOperator(model, *samples)
    operator @ np.ones(53)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model[0].weight.data.mul_(3)  # which torch does not count as a change
    with pytest.raises(RuntimeError, match="the model's weights have changed since the operator was made"):
        operator @ np.ones(53)
    model[0].weight.data.copy_(before["0.weight"])
    operator @ np.ones(53)
    with torch.no_grad():
        model[0].bias += 1
    with pytest.raises(RuntimeError, match="the model's weights have changed since the operator was made"):
        operator @ np.ones(53)


def test_curvlinops_estimators_take_it(model, samples):
    from curvlinops import hutchinson_squared_fro, xtrace

    truth = dense(model, samples)
    operator = fishertail.FisherOperator(model, *samples).to_curvlinops()
    torch.manual_seed(0)
    assert float(xtrace(operator, 52)) == pytest.approx(np.square(truth).sum() / N, rel=1e-3)
    squares = float(hutchinson_squared_fro(operator, 52))
    assert squares == pytest.approx(np.square(truth.T @ truth / N).sum(), rel=0.3)


def test_without_curvlinops_a_sentence_says_what_to_install(model, samples, monkeypatch):
    import sys

    for name in ("fishertail.fisher.pytorch_operator", "fishertail.fisher.curvlinops_extra"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    operator = fishertail.FisherOperator(model, *samples)
    with pytest.raises(fishertail.errors.NodeError, match="pip install curvlinops-for-pytorch"):
        operator.to_curvlinops()
