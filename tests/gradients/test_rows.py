"""Rows of each kind of layer against autograd, one sample at a time, in float64."""

import pytest
import torch
from torch import nn

from fishertail.gradients.layer_rows.blocks import BlockRows
from fishertail.gradients.layer_rows.convolution import ConvolutionRows, KernelRows
from fishertail.gradients.layer_rows.dense import DenseRows
from fishertail.gradients.layer_rows.linear import LinearRows
from fishertail.gradients.layer_rows.outer_products import OuterProductRows, added
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.recording import Recorder

LAYERS = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear without bias": (nn.Linear(7, 5, bias=False), (7,)),
    "linear over tokens": (nn.Linear(7, 5), (4, 7)),
    "wide linear over tokens": (nn.Linear(17, 15), (4, 17)),
    "very wide linear over tokens": (nn.Linear(90, 80), (2, 90)),
    "wide linear over tokens without bias": (nn.Linear(17, 15, bias=False), (3, 17)),
    "linear over a grid": (nn.Linear(7, 5), (3, 2, 7)),
    "convolution": (nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "convolution without bias": (nn.Conv2d(3, 4, 3, bias=False), (3, 6, 5)),
    "strided": (nn.Conv2d(3, 4, 3, stride=(2, 3), padding=(1, 2)), (3, 9, 8)),
    "dilated": (nn.Conv2d(2, 4, (3, 2), dilation=(2, 3), padding=2), (2, 9, 8)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5)),
    "depthwise": (nn.Conv2d(6, 12, 3, groups=6, stride=2), (6, 7, 7)),
    "pointwise": (nn.Conv2d(6, 3, 1), (6, 4, 4)),
    "convolution at few positions": (nn.Conv2d(20, 30, 3, stride=2, padding=1), (20, 3, 4)),
    "convolution at one position": (nn.Conv2d(20, 30, 3, bias=False), (20, 3, 3)),
    "grouped at few positions": (nn.Conv2d(20, 30, (3, 2), groups=2, dilation=(1, 2)), (20, 4, 4)),
    "convolution of sequences": (nn.Conv1d(6, 4, 3, stride=2, padding=1, dilation=2), (6, 11)),
    "padding same": (nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 6, 7)),
    "reflected padding": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 6, 7)),
    "batch norm": (nn.BatchNorm2d(3), (3, 4, 5)),
    "batch norm of vectors": (nn.BatchNorm1d(6), (6,)),
    "layer norm": (nn.LayerNorm(6), (4, 6)),
    "layer norm of vectors": (nn.LayerNorm(6), (6,)),
    "layer norm of two axes": (nn.LayerNorm((4, 6)), (3, 4, 6)),
    "group norm": (nn.GroupNorm(2, 6), (6, 4, 5)),
    "instance norm": (nn.InstanceNorm2d(3, affine=True), (3, 4, 5)),
    "RMS norm": (nn.RMSNorm(6), (4, 6)),
    "PReLU": (nn.PReLU(), (4, 6)),
    "PReLU by channel": (nn.PReLU(4), (4, 6)),
    "embedding": (nn.Embedding(9, 5), None),
    "embedding with padding": (nn.Embedding(9, 5, padding_idx=-2), None),
}


OF_TWO_LENGTHS = [(torch.randn(2, length, 40), torch.randn(2, length, 30)) for length in (1, 3)]


def use_of(layer: nn.Module, inputs: torch.Tensor):
    """The call of the function that the layer ends in."""
    with Recorder({id(parameter): name for name, parameter in layer.named_parameters()}) as recorder:
        layer(inputs)
    (use,) = recorder.recording.uses
    return use


def rows_of(layer: nn.Module, inputs: torch.Tensor, derivatives: torch.Tensor, scale: torch.Tensor) -> Rows:
    use = use_of(layer, inputs)
    return use.rows(tuple(use.parameters), use.input, derivatives, scale)


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
    inputs = torch.randint(9, (5, 6)) if shape is None else torch.randn(5, *shape, dtype=torch.float64)
    derivatives = torch.randn_like(layer(inputs).detach())
    scale = torch.tensor([1.0, 2.0, 0.5, 0.0, 1e-30], dtype=torch.float64)
    truth = []
    for x, d, s in zip(inputs, derivatives, scale, strict=True):
        gradients = torch.autograd.grad((layer(x[None]) * d[None]).sum(), list(layer.parameters()))
        truth.append(s * torch.cat([g.flatten() for g in gradients]))
    return rows_of(layer, inputs, derivatives, scale), torch.stack(truth)


def test_norms(case):
    rows, truth = case
    torch.testing.assert_close(rows.norms(), torch.linalg.vector_norm(truth, dim=1), rtol=1e-10, atol=0)


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
    room.fill(slice(0, 5), rows)
    room.fill(torch.tensor([4, 5, 6]), rows.take(torch.tensor([3, 0, 1])))
    torch.testing.assert_close(room.norms(), rows.norms()[[0, 1, 2, 3, 3, 0, 1]], rtol=1e-14, atol=0)
    assert room.nbytes * 5 == rows.nbytes * 7
    torch.testing.assert_close(room.take(slice(2, 4)).norms(), rows.norms()[2:4], rtol=1e-14, atol=0)


def test_a_block_of_memory_takes_no_rows_of_another_form():
    short, long = (rows_of(nn.Linear(40, 30), *made, torch.ones(2, dtype=torch.float64)) for made in OF_TWO_LENGTHS)
    for rows in (long, short.dense()):
        with pytest.raises(ValueError, match=r"rows: .*OuterProductRows.* expected, found"):
            short.empty(2).fill(slice(0, 2), rows)


def test_dense_rows_are_the_gradients(case):
    rows, truth = case
    found = rows.dense().gradients * rows.dense().scale[:, None]
    torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-42)


def kind_of(layer: nn.Module, *shape: int) -> type:
    inputs = torch.randn(2, *shape)
    outputs = layer(inputs).detach()
    return type(rows_of(layer, inputs, outputs, torch.ones(2, dtype=torch.float64)))


def test_the_smaller_of_factors_and_gradients_is_kept():
    assert kind_of(nn.Linear(7, 5), 7) is LinearRows
    assert kind_of(nn.Linear(7, 5), 4, 7) is DenseRows
    assert kind_of(nn.Linear(70, 50), 4, 70) is OuterProductRows
    assert kind_of(nn.Conv2d(3, 4, 3), 3, 9, 9) is KernelRows
    assert kind_of(nn.Conv2d(30, 40, 3), 30, 4, 4) is ConvolutionRows


@pytest.mark.parametrize("positions", [1, 2, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_used_twice_has_the_sum_of_both_gradients(positions, bias):
    torch.manual_seed(0)
    layer = nn.Linear(12, 10, bias=bias).double()
    shape = (5, 12) if positions == 1 else (5, positions, 12)
    scale = torch.rand(5, dtype=torch.float64)
    uses = [torch.randn(shape, dtype=torch.float64) for _ in range(2)]
    derivatives = [torch.randn_like(layer(x).detach()) for x in uses]
    parts = [rows_of(layer, x, d, scale) for x, d in zip(uses, derivatives, strict=True)]
    both, truth = added(parts), sum(part.dense().gradients for part in parts) * scale[:, None]
    torch.testing.assert_close(both.norms(), torch.linalg.vector_norm(truth, dim=1), rtol=1e-10, atol=0)
    torch.testing.assert_close(both.gram(), truth @ truth.T, rtol=1e-10, atol=1e-12)
    vectors = torch.randn(2, truth.shape[1], dtype=torch.float64)
    torch.testing.assert_close(both.project(vectors), truth @ vectors.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 7, 60])
def test_an_embedding_tied_to_a_linear_layer(samples):
    torch.manual_seed(0)
    table, head = nn.Embedding(40, 6).double(), nn.Linear(6, 40, bias=False).double()
    tokens = torch.randint(40, (samples, 3))
    inputs = torch.randn(samples, 3, 6, dtype=torch.float64)
    scale = torch.rand(samples, dtype=torch.float64)
    parts = [
        rows_of(table, tokens, torch.randn(samples, 3, 6, dtype=torch.float64), scale),
        rows_of(head, inputs, torch.randn(samples, 3, 40, dtype=torch.float64), scale),
    ]
    both, truth = added(parts), sum(part.dense().gradients for part in parts) * scale[:, None]
    assert type(both) is OuterProductRows
    torch.testing.assert_close(both.norms(), torch.linalg.vector_norm(truth, dim=1), rtol=1e-10, atol=0)
    torch.testing.assert_close(both.gram(), truth @ truth.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(parts[0].gram(), parts[0].dense().gram(), rtol=1e-10, atol=1e-12)
    sums = torch.zeros(1, 240, dtype=torch.float64)
    both.combine(torch.ones(samples, 1, dtype=torch.float64), sums)
    torch.testing.assert_close(sums[0], truth.sum(0), rtol=1e-10, atol=1e-12)


def test_positions_that_cancel_keep_their_digits():
    """The gradient is a millionth of its terms: in float32, the ghost norm alone would have no digit right."""
    torch.manual_seed(0)
    layer = nn.Linear(40, 40)
    inputs, derivatives = torch.randn(3, 1, 40).expand(3, 4, 40).clone(), torch.randn(3, 2, 40)
    derivatives = torch.cat([derivatives, -derivatives + 1e-6 * torch.randn(3, 2, 40)], dim=1)
    rows = rows_of(layer, inputs, derivatives, torch.ones(3, dtype=torch.float64))
    assert type(rows) is OuterProductRows
    exact = (derivatives.double().mT @ inputs.double()).flatten(1)
    exact = torch.cat([exact, derivatives.double().sum(1)], dim=1)
    torch.testing.assert_close(rows.norms(), torch.linalg.vector_norm(exact, dim=1), rtol=0.1, atol=0)


def test_sums_over_millions_of_entries_keep_six_digits():
    torch.manual_seed(0)
    gradients = torch.randn(2, 3_000_000) + 1
    rows = DenseRows(gradients, torch.ones(2, dtype=torch.float64))
    exact = gradients.double()
    torch.testing.assert_close(rows.norms(), torch.linalg.vector_norm(exact, dim=1), rtol=1e-6, atol=0)
    torch.testing.assert_close(rows.gram(), exact @ exact.T, rtol=2e-6, atol=0)
    vector = torch.rand(1, 3_000_000)
    torch.testing.assert_close(rows.project(vector), exact @ vector.double().T, rtol=2e-6, atol=0)


def test_groups_of_parameters_side_by_side():
    torch.manual_seed(0)
    blocks = [DenseRows(torch.randn(3, size), torch.tensor([1.0, 2.0, 1e-200], dtype=torch.float64)) for size in (4, 2)]
    rows = BlockRows(tuple(blocks), (4, 2))
    whole = DenseRows(torch.cat([block.gradients for block in blocks], dim=1), blocks[0].scale)
    torch.testing.assert_close(rows.norms(), whole.norms(), rtol=1e-6, atol=0)
    assert rows.norms()[2] > 0
    torch.testing.assert_close(rows.gram()[:2, :2], whole.gram()[:2, :2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rows.dense().gradients, whole.gradients)
