"""The Hessian's eigenvalues against torch.func.hessian in float64."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fishertail.errors import UnsupportedModelError
from fishertail.fisher.hessian import Hessian
from tests.gradients.parts import Rounded
from tests.measurements import measured

LAYERS = {"first": ["first"], "second": ["second"], "network": measured.LAYERS}


def dense_hessian(model, inputs, targets, names, loss=nn.functional.cross_entropy):
    """(P, P) float64, of the parameters of these names."""
    model = copy.deepcopy(model).double()
    own = [dict(model.named_parameters())[name].detach() for name in names]
    sizes = [parameter.numel() for parameter in own]

    def mean_loss(flat):
        parts = {n: part.view_as(p) for n, p, part in zip(names, own, flat.split(sizes), strict=True)}
        return loss(torch.func.functional_call(model, parts, (inputs.double(),)), targets)

    return torch.func.hessian(mean_loss)(torch.cat([parameter.flatten() for parameter in own])).detach().numpy()


def parameters(layers):
    return [name for name, _ in measured.network().named_parameters() if name.split(".")[0] in layers]


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    return norms | measured.by_gradients("spectrum", norms)


@pytest.fixture(scope="module")
def found(tables):
    options = {"layers": "all", "samples": "all", "eigenpairs": 2, "both_ends": True, "tolerance": 1e-5}
    return (
        measured.by_gradients("hessian", tables, hessian=options)["hessian"]
        .set_index(["step", "layer", "rank"])
        .sort_index()
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_both_ends_of_the_spectrum_and_the_cosine_with_the_leading_eigenvector(found, layer):
    for step in measured.STEPS:
        model = measured.network()
        model.load_state_dict(measured.weights()[step])
        truth = dense_hessian(model, *measured.samples(), parameters(LAYERS[layer]))
        values, vectors = np.linalg.eigh(truth)
        rows = found.loc[(step, layer)]
        np.testing.assert_allclose(rows.loc[[1, 2], "eigenvalue"], values[[-1, -2]], rtol=1e-5)
        np.testing.assert_allclose(rows.loc[[-1, -2], "eigenvalue"], values[[0, 1]], atol=1e-6 * values[-1])
        assert (rows["samples"] == measured.SAMPLES).all()
        assert rows.loc[1, "converged"]
        assert rows.loc[1, "rate_times_eigenvalue"] == pytest.approx(measured.RATE * values[-1], rel=1e-5)
        leading = np.linalg.svd(measured.gradients(step)[layer], full_matrices=False)[2][0]
        assert rows.loc[1, "cosine"] == pytest.approx(abs(leading @ vectors[:, -1]), abs=1e-3)


def test_some_samples_are_drawn_once_and_counted(tables):
    options = {"samples": 11, "tolerance": 1e-5}
    table = measured.by_gradients("hessian", tables, hessian=options)["hessian"]
    drawn = torch.randperm(measured.SAMPLES, generator=torch.Generator().manual_seed(0))[:11]
    inputs, labels = measured.samples()
    for row in table.itertuples():
        model = measured.network()
        model.load_state_dict(measured.weights()[row.step])
        truth = dense_hessian(model, inputs[drawn], labels[drawn], parameters(measured.LAYERS))
        assert row.eigenvalue == pytest.approx(np.linalg.eigvalsh(truth)[-1], rel=1e-5)
        assert (row.samples, row.layer) == (11, "network")


def test_without_eigenvectors_or_a_rate_the_rest_is_measured(tables, monkeypatch):
    monkeypatch.setattr(measured, "RATE", float("nan"))
    table = measured.by_gradients("hessian", tables | {"eigenvectors": {}})["hessian"]
    assert table["eigenvalue"].notna().all()
    assert table[["rate_times_eigenvalue", "cosine"]].isna().all(axis=None)


def wide(seed: int, layer_norm: nn.Module) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network of more parameters than a dense Hessian is made for, and one that is not used."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 10), layer_norm, nn.Tanh(), nn.Linear(10, 3))
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    return model, torch.randn(23, 6), torch.arange(23) % 3


class PlainLayerNorm(nn.LayerNorm):
    def forward(self, inputs):
        deviation = inputs.var(-1, keepdim=True, unbiased=False).add(self.eps).sqrt()
        return (inputs - inputs.mean(-1, keepdim=True)) / deviation * self.weight + self.bias


@pytest.mark.slow
@pytest.mark.parametrize("loss", [None, nn.MSELoss()], ids=["ce", "mse"])
def test_lanczos_with_layer_normalisation_and_an_unused_parameter(loss):
    model, inputs, labels = wide(0, nn.LayerNorm(10))
    targets = labels if loss is None else torch.randn(23, 3)
    names = [name for name, _ in model.named_parameters()]
    found = Hessian(model, inputs, targets, loss, 5).eigenpairs(names, k=2, both_ends=True, rtol=1e-6)
    plain, _, _ = wide(0, PlainLayerNorm(10))  # whose second derivatives are right
    exact = targets.double() if targets.is_floating_point() else targets
    values = np.linalg.eigvalsh(dense_hessian(plain, inputs, exact, names, loss or nn.functional.cross_entropy))
    np.testing.assert_allclose(found.eigenvalues, values[[-1, -2, 0, 1]], rtol=1e-5)
    assert found.ranks.tolist() == [1, 2, -1, -2]
    assert (found.residuals < 1e-4 * values[-1]).all()


@pytest.mark.parametrize("logit", [27.0, 60.0])
def test_fitted_samples_keep_their_digits(logit):
    """1 - p of 1e-12 is below the rounding of p in float32, one of exp(-60) below that in float64."""
    model = nn.Sequential(nn.Linear(2, 2))
    nn.init.zeros_(model[0].weight)
    model[0].bias.data = torch.tensor([logit, 0.0])
    inputs, labels = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    found = Hessian(model, inputs, labels, None, 2).eigenpairs(["0.bias"], k=1, both_ends=False, rtol=1e-6)
    p = 1 / (1 + np.exp(-logit))
    assert found.eigenvalues[0] == pytest.approx(2 * p * np.exp(-logit) * p, rel=1e-6)


@pytest.mark.parametrize("samples", [40, 10])
@pytest.mark.parametrize("k", [1, 3])
def test_eigenvalues_that_repeat_or_are_zero(samples, k):
    """With the squared error of a linear network an eigenvalue occurs once for each output, and 0 for few samples."""
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(20, 5, bias=False), torch.randn(samples, 20), torch.randn(samples, 5)
    found = Hessian(model, inputs, targets, nn.MSELoss(), 7).eigenpairs(["weight"], k=k, both_ends=True, rtol=1e-3)
    values = np.linalg.svd(inputs.double().numpy(), compute_uv=False) ** 2 * 2 / (5 * samples)
    smallest = values[-1] if samples > 20 else 0.0
    np.testing.assert_allclose(found.eigenvalues, [values[0]] * k + [smallest] * k, rtol=1e-5, atol=1e-6 * values[0])
    assert (found.residuals < 2e-3 * values[0]).all()
    assert found.products < 70 * k  # 14 to 51 times k, as rounding has it


def test_a_loss_that_needs_outputs_and_targets_of_one_type():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(6, 3), torch.randn(9, 6), torch.randn(9, 3)
    loss, names = nn.HuberLoss(), ["weight", "bias"]
    found = Hessian(model, inputs, targets, loss, 5).eigenpairs(names, k=1, both_ends=False, rtol=1e-3)
    values = np.linalg.eigvalsh(dense_hessian(model, inputs, targets.double(), names, loss))
    assert found.eigenvalues[0] == pytest.approx(values[-1], rel=1e-5)


def test_a_small_hessian_that_is_not_finite():
    model = nn.Linear(6, 3)
    hessian = Hessian(model, torch.randn(9, 6), torch.arange(9) % 3, None, 5)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    found = hessian.eigenpairs(["weight", "bias"], k=2, both_ends=True, rtol=1e-3)
    assert np.isnan(found.eigenvalues).all()
    assert np.isnan(found.residuals).all()


def test_a_hessian_of_zero_and_one_that_is_not_finite():
    model, inputs, labels = wide(0, nn.Identity())
    names = [name for name, _ in model.named_parameters()]

    def linear(outputs, _):
        return outputs.sum()

    last = Hessian(model, inputs, labels, linear, 5).eigenpairs(["3.weight"], k=1, both_ends=False, rtol=1e-3)
    assert last.eigenvalues.tolist() == [0]
    assert last.residuals.tolist() == [0]
    hessian = Hessian(model, inputs, labels, None, 5)
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    assert np.isnan(hessian.eigenpairs(names, k=1, both_ends=False, rtol=1e-3).eigenvalues).all()


class Shifted(torch.autograd.Function):
    """Squares, whose derivatives stand at the wrong places."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs):
        return inputs.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, derivatives):
        return 2 * derivatives * ctx.saved_tensors[0].roll(1, -1)

    @staticmethod
    def jvp(ctx, tangents):
        return 2 * tangents * ctx.saved_tensors[0]


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function.apply(inputs)


def test_what_has_no_second_derivative_says_so():
    _, inputs, labels = wide(0, nn.Identity())
    with pytest.raises(UnsupportedModelError, match="no second derivative: In order to use an autograd"):
        Hessian(nn.Sequential(nn.Linear(6, 3), Rounded()), inputs, labels, None, 5)
    with pytest.raises(UnsupportedModelError, match=r"not symmetric, so one of its operations .* differ by"):
        Hessian(nn.Sequential(nn.Linear(6, 3), Applied(Shifted)), inputs, labels, None, 5)


def test_weights_of_a_limited_embedding_are_left_as_they_were():
    model = nn.Sequential(nn.Embedding(9, 4, max_norm=0.5), nn.Flatten(), nn.Linear(8, 3))
    before, words, labels = copy.deepcopy(model), torch.arange(20).reshape(10, 2) % 9, torch.arange(10) % 3
    hessian = Hessian(model, words, labels, None, 5)
    assert np.isfinite(hessian.eigenpairs(["0.weight"], k=1, both_ends=False, rtol=1e-3).eigenvalues).all()
    assert torch.equal(model[0].weight, before[0].weight)


def test_the_model_is_left_as_it_was():
    model, inputs, labels = wide(0, nn.LayerNorm(10))
    owned, values = dict(model.named_parameters()), [p.detach().clone() for p in model.parameters()]
    Hessian(model, inputs, labels, None, 5).eigenpairs(["0.weight"], k=1, both_ends=False, rtol=1e-3)
    assert all(owned[name] is parameter and parameter.grad is None for name, parameter in model.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(values, model.parameters(), strict=True))
    assert torch.is_grad_enabled()


def test_rows_are_of_the_layers_asked_for(tables):
    table = measured.by_gradients("hessian", tables, hessian={"layers": ["second", "fc4"]})["hessian"]
    pd.testing.assert_series_equal(table["layer"], pd.Series(["second"] * 3, name="layer"), check_dtype=False)
