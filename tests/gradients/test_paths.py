"""Batches that run otherwise than the samples of the probe: each is exact, whatever path its samples take."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import fishertail
from fishertail.errors import UnsupportedModelError
from fishertail.gradients.cache import RowCache
from fishertail.gradients.layer_rows.protocol import Rows
from fishertail.gradients.matrix import GradientMatrix
from tests.gradients.parts import Lambda
from tests.truth import dense_gradients

SAMPLES = 33
PROBED = (0, 16, 32)  # where all samples have as many entries that are not 0
LOOKED_AT = range(0, SAMPLES, 2)  # by the probe, for their lengths
LABELS = torch.arange(SAMPLES) % 3


def gate(m, x):
    """Another layer for the samples whose first feature is positive."""
    hidden, chosen = m.a(x).tanh(), x[:, 0] > 0
    if chosen.any():
        hidden = hidden.index_put((chosen.nonzero().flatten(),), m.extra(hidden[chosen]))
    return m.o(hidden)


def experts(m, x):
    """Another output layer for some samples than for others, each called where it has any."""
    chosen, outputs = x[:, 0] > 0, x.new_zeros(len(x), 3)
    for rows, expert in ((chosen, m.a), (~chosen, m.b)):
        if rows.any():
            outputs = outputs.index_put((rows.nonzero().flatten(),), expert(x[rows]))
    return outputs


def experts_always_called(m, x):
    chosen, outputs = x[:, 0] > 0, x.new_zeros(len(x), 3)
    for rows, expert in ((chosen, m.a), (~chosen, m.b)):
        outputs = outputs.index_put((rows.nonzero().flatten(),), expert(x[rows]))
    return outputs


def scales(m, x):
    """Parameters without a module of their own, of which a sample uses one."""
    hidden, chosen = m.o(x), x[:, :1] > 0
    if chosen.all():
        return hidden * m.s
    return torch.where(chosen, hidden * m.s, hidden * m.t) if chosen.any() else hidden * m.t


def scaled_where(m, x):
    hidden, chosen = m.o(x), x[:, 0] > 0
    return hidden.index_put((chosen.nonzero().flatten(),), hidden[chosen] * m.s)


def unchanged_where(m, x):
    """Outputs that depend on no parameter for some samples."""
    chosen = x[:, 0] > 0
    return x[:, :3].index_put((chosen.nonzero().flatten(),), m.o(x[chosen])) if chosen.any() else x[:, :3]


def by_length(m, x):
    """The samples in the order of their lengths, longest first, as recurrent layers of packed batches want them."""
    lengths = (x != 0).sum(1)
    order = lengths.argsort(descending=True, stable=True)
    hidden = m.r(m.e(x[order])).tanh().sum(1) / lengths[order, None]
    return m.o(hidden)[order.argsort()]


def without_padding(m, x):
    """All tokens but the padding in one row, as attention kernels for sequences of several lengths want them."""
    mask = x != 0
    hidden = m.r(m.e(x)[mask]).tanh()
    return m.o(hidden.new_zeros(*x.shape, 8).masked_scatter(mask[:, :, None], hidden).sum(1))


def scale() -> nn.Parameter:
    return nn.Parameter(torch.rand(3) + 0.5)


def on_tokens(function) -> nn.Module:
    return Lambda(function, e=nn.Embedding(30, 8), r=nn.Linear(8, 8), o=nn.Linear(8, 3))


GATED = {
    "gate": lambda: Lambda(gate, a=nn.Linear(6, 8), extra=nn.Linear(8, 8), o=nn.Linear(8, 3)),
    "gate of a layer without a rule": lambda: Lambda(
        gate, a=nn.Linear(6, 8), extra=nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), o=nn.Linear(8, 3)
    ),
    "experts": lambda: Lambda(experts, a=nn.Linear(6, 3), b=nn.Linear(6, 3)),
    "experts, always called": lambda: Lambda(experts_always_called, a=nn.Linear(6, 3), b=nn.Linear(6, 3)),
    "experts without a rule": lambda: Lambda(
        experts_always_called, a=nn.Linear(6, 3), b=nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))
    ),
    "parameters": lambda: Lambda(scales, o=nn.Linear(6, 3), s=scale(), t=scale()),
    "a parameter for some samples": lambda: Lambda(scaled_where, o=nn.Linear(6, 3), s=scale()),
    "no parameter for some samples": lambda: Lambda(unchanged_where, o=nn.Linear(6, 3)),
}


def gated_samples(passing: list[int]) -> torch.Tensor:
    samples = torch.randn(SAMPLES, 6)
    samples[:, 0] = -samples[:, 0].abs()
    samples[passing, 0] *= -1
    return samples


def tokens(lengths) -> torch.Tensor:
    return torch.where(torch.arange(7) < torch.as_tensor(lengths)[:, None], torch.randint(1, 30, (SAMPLES, 7)), 0)


def assert_exact(model: nn.Module, inputs: torch.Tensor, batch_size: int) -> None:
    truth = dense_gradients(model, inputs, LABELS)
    with GradientMatrix(model, inputs, LABELS, batch_size=batch_size) as matrix:
        for batch in matrix.batches():
            for layer, gradients in truth.items():
                found = batch.rows[layer].dense()
                expected = gradients[batch.index.numpy()]
                np.testing.assert_allclose(
                    found.gradients * found.scale[:, None], expected, rtol=1e-4, atol=1e-5 * np.abs(gradients).max()
                )


@pytest.mark.parametrize("batch_size", [1, 3, 4, SAMPLES])
@pytest.mark.parametrize("others", [[], [5, 6, 7, 20]], ids=["only those of the probe", "others, too"])
@pytest.mark.parametrize("case", GATED)
def test_samples_on_another_path_than_those_of_the_probe(case, others, batch_size):
    torch.manual_seed(0)
    assert_exact(GATED[case](), gated_samples([*PROBED, *others]), batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, SAMPLES])
@pytest.mark.parametrize("function", [by_length, without_padding])
def test_batches_in_the_order_of_their_lengths_or_without_padding(function, batch_size):
    torch.manual_seed(0)
    lengths = [7, 3, 5, 2, 6, 5, 7, 1, 4, 2, 3] * 3
    assert_exact(on_tokens(function), tokens(lengths), batch_size)
    assert_exact(on_tokens(function), tokens(sorted(lengths)), batch_size)
    assert_exact(on_tokens(function), tokens(sorted(lengths, reverse=True)), batch_size)


@pytest.mark.parametrize("short", [[1, 3], [3, 5, 7, 9, 11, 13, 15]])
def test_padding_that_the_probe_does_not_see(short):
    """A batch of 33 has 7 or 28 tokens fewer: the shapes of the first cannot be divided, those of the second can."""
    torch.manual_seed(0)
    lengths = [7] * SAMPLES
    for position in short:
        assert position not in LOOKED_AT
        lengths[position] = 3
    for batch_size in (4, SAMPLES):
        assert_exact(on_tokens(without_padding), tokens(lengths), batch_size)


class Sentences(Dataset):
    def __init__(self, lengths: list[int]):
        self.sentences = [torch.randint(1, 30, (length,)) for length in lengths]

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, i):
        return self.sentences[i], i % 3


def padded(batch):
    sentences, labels = zip(*batch, strict=True)
    return nn.utils.rnn.pad_sequence(sentences, batch_first=True), torch.tensor(labels)


def on_padded_tokens(bias: bool) -> nn.Module:
    def forward(m, x):
        return m.o((m.r(m.e(x)).tanh() * (x != 0)[:, :, None]).sum(1) / (x != 0).sum(1, keepdim=True))

    return Lambda(forward, e=nn.Embedding(30, 40), r=nn.Linear(40, 40, bias=bias), o=nn.Linear(40, 3))


def truth_of(model: nn.Module, data: Dataset) -> dict[str, np.ndarray]:
    each = [dense_gradients(model, inputs[None], torch.as_tensor(label)[None]) for inputs, label in data]
    return {layer: np.concatenate([of_one[layer] for of_one in each]) for layer in each[0]}


def gradients_in(parts: Iterable[tuple[torch.Tensor, Rows]], shape: tuple[int, ...]) -> np.ndarray:
    """The rows of some batches, each at the places of its samples."""
    found = torch.full(shape, torch.nan, dtype=torch.float64)
    for index, rows in parts:
        dense = rows.dense()
        found[index] = dense.gradients * dense.scale[:, None]
    return found.numpy()


@pytest.mark.parametrize("lengths", [[5, 7, 3, 1], [1, 7, 3, 5], [7, 5, 1, 3], [5, 1, 5, 1], [3, 90, 5, 1]])
@pytest.mark.parametrize("bias", [True, False])
def test_rows_of_several_lengths_are_kept_and_joined(lengths, bias):
    torch.manual_seed(0)
    model, data = on_padded_tokens(bias), Sentences([length for length in lengths for _ in range(8)])
    truth, everything = truth_of(model, data), torch.arange(len(data))
    with GradientMatrix(model, DataLoader(data, collate_fn=padded), batch_size=8) as matrix:
        for budget in (0, 1e5, 1e9):
            cache = RowCache(matrix, matrix.layers, budget)
            passes = [list(cache.batches(everything, matrix.layers)) for _ in range(2)]
            together = cache.together(everything[1::2], matrix.layers)
            for layer, gradients in truth.items():
                options = {"rtol": 1e-4, "atol": 1e-5 * np.abs(gradients).max()}
                for batches in passes:
                    found = gradients_in(((index, rows[layer]) for index, rows in batches), gradients.shape)
                    np.testing.assert_allclose(found, gradients, **options)
                part, rows = gradients[1::2], together[layer]
                gram, vectors = part @ part.T, torch.randn(2, part.shape[1])
                sums = torch.zeros(2, part.shape[1])
                rows.combine(torch.ones(len(part), 2, dtype=torch.float64), sums)
                np.testing.assert_allclose(rows.gram(), gram, rtol=1e-4, atol=1e-5 * np.abs(gram).max())
                np.testing.assert_allclose(rows.norms(), np.linalg.norm(part, axis=1), **options)
                np.testing.assert_allclose(rows.project(vectors), part @ vectors.numpy().T, **options)
                np.testing.assert_allclose(sums[0], part.sum(0), **options)


def convolution_and_experts(m, x):
    return experts(m, m.c(x).tanh().mean((2, 3)))


def test_rows_of_batches_on_two_paths_are_kept_and_joined():
    torch.manual_seed(0)
    model = Lambda(convolution_and_experts, c=nn.Conv2d(3, 4, 3), a=nn.Linear(4, 3), b=nn.Linear(4, 3))
    inputs = torch.randn(SAMPLES, 3, 8, 8)
    with torch.no_grad():
        middle = model.c(inputs).tanh().mean((2, 3))[:, 0].median()
        model.c.bias[0] -= 2 * middle
    truth = dense_gradients(model, inputs, LABELS)
    with GradientMatrix(model, inputs, LABELS, batch_size=1) as matrix:
        cache = RowCache(matrix, matrix.layers, 1e9)
        for _ in range(2):
            list(cache.batches(torch.arange(SAMPLES), matrix.layers))
        for layer, rows in cache.together(torch.arange(SAMPLES), matrix.layers).items():
            found = gradients_in([(torch.arange(SAMPLES), rows)], truth[layer].shape)
            np.testing.assert_allclose(found, truth[layer], rtol=1e-4, atol=1e-5 * np.abs(truth[layer]).max())
    whole = np.concatenate(list(truth.values()), axis=1)
    pairs = fishertail.fisher_eigenpairs(model, inputs, LABELS, layers=["network"], batch_size=1)["network"]
    assert pairs.eigenvalues[0] == pytest.approx(np.linalg.svd(whole, compute_uv=False)[0] ** 2 / SAMPLES, rel=1e-4)


def folded(m, x):
    """Samples and tokens on one axis."""
    return m.o(m.r(m.e(x.flatten())).tanh().unflatten(0, x.shape).mul((x != 0)[:, :, None]).sum(1))


def test_batches_of_several_lengths_keep_their_rule():
    torch.manual_seed(0)
    model, data = on_tokens(folded), Sentences([5] * 8 + [7] * 8 + [1] * 8 + [3] * 9)
    with GradientMatrix(model, DataLoader(data, collate_fn=padded), batch_size=8) as matrix:
        assert set(matrix.plan.by_rule) == {"e", "r", "o"}
        norms = matrix.norms()
    truth = truth_of(model, data)
    for column, layer in enumerate(norms.layers):
        expected = np.linalg.norm(truth[layer], axis=1)
        np.testing.assert_allclose(norms.per_layer[:, column], expected, rtol=1e-4)


def test_a_path_that_cannot_be_followed_sample_by_sample_is_refused():
    model = Lambda(
        lambda m, x: {"logits": gate(m, x), "used": x[x[:, 0] > 0]}, **dict(GATED["gate"]().named_children())
    )
    inputs = gated_samples(list(PROBED))
    inputs[5, 0] = 1
    with pytest.raises(UnsupportedModelError, match="every tensor that it takes or returns must have an axis"):
        fishertail.gradient_norms(model, inputs, LABELS, batch_size=4)
