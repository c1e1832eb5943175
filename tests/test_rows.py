"""Rows of each kind of layer against autograd, one sample at a time, in float64."""

import pytest
import torch
from torch import nn

from fishertail.rows import DenseRows, FactoredRows, has_rule, layer_rows

LAYERS = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear without bias": (nn.Linear(7, 5, bias=False), (7,)),
    "linear over tokens": (nn.Linear(7, 5), (4, 7)),
    "linear over a grid": (nn.Linear(7, 5), (3, 2, 7)),
    "convolution": (nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "convolution without bias": (nn.Conv2d(3, 4, 3, bias=False), (3, 6, 5)),
    "strided": (nn.Conv2d(3, 4, 3, stride=(2, 3), padding=(1, 2)), (3, 9, 8)),
    "dilated": (nn.Conv2d(2, 4, (3, 2), dilation=(2, 3), padding=2), (2, 9, 8)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5)),
    "depthwise": (nn.Conv2d(6, 12, 3, groups=6, stride=2), (6, 7, 7)),
    "pointwise": (nn.Conv2d(6, 3, 1), (6, 4, 4)),
    "batch norm": (nn.BatchNorm2d(3), (3, 4, 5)),
    "batch norm of vectors": (nn.BatchNorm1d(6), (6,)),
    "layer norm": (nn.LayerNorm(6), (4, 6)),
    "layer norm of vectors": (nn.LayerNorm(6), (6,)),
    "group norm": (nn.GroupNorm(2, 6), (6, 4, 5)),
}


@pytest.fixture(params=LAYERS, name="case")
def layer_case(request):
    """A layer's rows for 5 samples with scales, and the gradients by autograd."""
    layer, shape = LAYERS[request.param]
    torch.manual_seed(0)
    layer = layer.double().eval()
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    inputs = torch.randn(5, *shape, dtype=torch.float64)
    derivatives = torch.randn_like(layer(inputs).detach())
    scale = torch.tensor([1.0, 2.0, 0.5, 0.0, 1e-30], dtype=torch.float64)
    truth = []
    for x, d, s in zip(inputs, derivatives, scale, strict=True):
        gradients = torch.autograd.grad((layer(x[None]) * d[None]).sum(), list(layer.parameters()))
        truth.append(s * torch.cat([g.flatten() for g in gradients]))
    assert has_rule(layer)
    return layer_rows(layer, inputs, derivatives, scale), torch.stack(truth)


def test_norms(case):
    rows, truth = case
    torch.testing.assert_close(rows.norms(), torch.linalg.vector_norm(truth, dim=1), rtol=1e-12, atol=0)


def test_project_is_g_times_v(case):
    rows, truth = case
    vectors = torch.randn(3, truth.shape[1], dtype=torch.float64)
    torch.testing.assert_close(rows.project(vectors), truth @ vectors.T, rtol=1e-10, atol=1e-42)


def test_combine_is_the_transpose(case):
    rows, truth = case
    coefficients = torch.randn(5, 2, dtype=torch.float64)
    sums = torch.ones(2, truth.shape[1], dtype=torch.float64)
    rows.combine(coefficients, sums)
    torch.testing.assert_close(sums, 1 + coefficients.T @ truth, rtol=1e-10, atol=1e-12)


def test_gram(case):
    rows, truth = case
    torch.testing.assert_close(rows.gram(), truth @ truth.T, rtol=1e-10, atol=1e-42)


def test_rows_are_taken_and_filled_in(case):
    rows, _ = case
    room = rows.empty(7)
    room.fill(0, rows)
    room.fill(4, rows.take(torch.tensor([3, 0, 1])))
    torch.testing.assert_close(room.norms(), rows.norms()[[0, 1, 2, 3, 3, 0, 1]], rtol=1e-14, atol=0)
    assert room.nbytes * 5 == rows.nbytes * 7
    torch.testing.assert_close(room.take(slice(2, 4)).norms(), rows.norms()[2:4], rtol=1e-14, atol=0)


def test_only_what_has_a_factored_form_is_factored():
    kinds = {}
    for name, (layer, shape) in LAYERS.items():
        inputs = torch.randn(2, *shape, dtype=next(layer.parameters()).dtype)
        outputs = layer.eval()(inputs).detach()
        kinds[name] = type(layer_rows(layer, inputs, outputs, torch.ones(2, dtype=torch.float64)))
    assert {name for name, kind in kinds.items() if kind is FactoredRows} == {"linear", "linear without bias"}
    assert set(kinds.values()) == {FactoredRows, DenseRows}


def test_subclasses_and_circular_padding_have_no_rule():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert not has_rule(Scaled(2, 2))
    assert not has_rule(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))
    assert not has_rule(nn.Conv2d(1, 1, 3, padding="same"))
