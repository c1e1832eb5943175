"""The rows of a sample by several losses: from one forward pass, with the layers' inputs stored once."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fishertail.fisher.operator import GradientOperator
from fishertail.fisher.true_fisher import true_rows
from fishertail.gradients.cache import RowCache
from fishertail.gradients.layer_rows.blocks import BlockRows
from fishertail.gradients.layer_rows.convolution import ConvolutionRows
from fishertail.gradients.layer_rows.linear import LinearRows
from fishertail.gradients.layer_rows.outer_products import OuterProductRows
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.repeated_matrix import RepeatedMatrix
from tests.truth import dense_gradients

CLASSES, SAMPLES = 3, 8


class Tokens(nn.Module):
    """A table, layers at several positions, a norm, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(50, 24), nn.LayerNorm(24)
        self.wide, self.twice, self.head = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, CLASSES)

    def forward(self, x):
        h = torch.tanh(self.wide(self.norm(self.table(x))))
        return self.head(self.twice(torch.tanh(self.twice(h))).mean(1))


def networks():
    few = nn.Sequential(
        nn.Conv2d(2, 16, 3, stride=2), nn.Tanh(), nn.Conv2d(16, 32, 2, groups=2), nn.Flatten(), nn.Linear(32, CLASSES)
    )
    return {
        "fc": (nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, CLASSES, bias=False)), torch.randn(SAMPLES, 6)),
        "conv": (few, torch.randn(SAMPLES, 2, 5, 5)),
        "tokens": (Tokens(), torch.randint(50, (SAMPLES, 4))),
    }


@pytest.fixture(params=["fc", "conv", "tokens"])
def problem(request):
    torch.manual_seed(0)
    return networks()[request.param]


def truth(model, inputs):
    """(N C, P) float64 by layer: row C x + c is sqrt(p_c) times the gradient of sample x for the label c."""
    exact = copy.deepcopy(model).double()
    shares = exact(inputs.double() if inputs.is_floating_point() else inputs).softmax(1).sqrt().detach().numpy()
    by_class = [dense_gradients(model, inputs, torch.full((SAMPLES,), label)) for label in range(CLASSES)]
    return {
        layer: np.stack([shares[:, c, None] * by_class[c][layer] for c in range(CLASSES)], 1).reshape(24, -1)
        for layer in by_class[0]
    }


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6 * np.abs(expected).max(initial=0))


@pytest.mark.parametrize("batch_size", [2, 4, 500], ids=["a pass for each", "a sample", "all"])
def test_rows_and_their_products_are_those_of_every_class(problem, batch_size):
    expected = truth(*problem)
    generator = torch.Generator().manual_seed(1)
    with GradientMatrix(*problem, torch.zeros(SAMPLES, dtype=torch.long), batch_size=batch_size) as matrix:
        rows, count = true_rows(matrix, None)
        assert count == CLASSES
        for batch in rows.batches():
            for layer, found in batch.rows.items():
                own = expected[layer][batch.index]
                vectors = torch.randn(4, own.shape[1], generator=generator)
                coefficients = torch.randn(len(own), 4, generator=generator, dtype=torch.float64)
                sums = torch.zeros(4, own.shape[1])
                found.combine(coefficients, sums)
                dense = found.dense()
                close(dense.gradients * dense.scale[:, None], own)
                close(found.norms(), np.linalg.norm(own, axis=1))
                close(found.gram(), own @ own.T)
                close(found.project(vectors), own @ vectors.double().numpy().T)
                close(sums, coefficients.numpy().T @ own)


@pytest.mark.parametrize("positions", [slice(3, 9), slice(1, 5), [0, 1, 2, 6, 7, 8], [0, 4, 5, 11]])
def test_rows_are_taken_as_if_each_had_its_own_input(problem, positions):
    expected = truth(*problem)
    with GradientMatrix(*problem, torch.zeros(SAMPLES, dtype=torch.long)) as matrix:
        (batch,) = true_rows(matrix, None)[0].batches()
    chosen = positions if isinstance(positions, slice) else torch.tensor(positions, dtype=torch.long)
    for layer, rows in batch.rows.items():
        taken, alone = rows.take(chosen), rows.alone().take(chosen)
        vectors = torch.eye(expected[layer].shape[1])
        close(taken.project(vectors), expected[layer][positions])
        close(alone.project(vectors), expected[layer][positions])


@pytest.mark.parametrize("budget", [1e9, 6e3, 0.0], ids=["all kept", "some kept", "none kept"])
@pytest.mark.parametrize("wanted", [range(24), [0, 1, 2, 9, 10, 11, 12, 13, 14], [1, 2, 3, 8, 22]])
def test_a_cache_keeps_whole_samples_and_gives_any_rows(problem, budget, wanted):
    expected, index = truth(*problem), torch.tensor(wanted)
    layers = tuple(expected)
    whole = np.concatenate(list(expected.values()), axis=1)[index]
    vectors = torch.randn(2, whole.shape[1], generator=torch.Generator().manual_seed(2))
    with GradientMatrix(*problem, torch.zeros(SAMPLES, dtype=torch.long), batch_size=7) as matrix:
        rows, _ = true_rows(matrix, None)
        cache = RowCache(rows, layers, budget)
        rows.norms(keep=cache.keep)
        operator = GradientOperator(cache, index, [layers])
        (projected,), (product,) = operator.multiply([vectors], [torch.ones(len(index), dtype=torch.float64)])
        close(projected, whole @ vectors.double().numpy().T)
        close(product, (whole @ vectors.double().numpy().T).T @ whole)
        close(operator.grams(1e9)[0], whole @ whole.T)


def test_inputs_are_stored_once(problem):
    with GradientMatrix(*problem, torch.zeros(SAMPLES, dtype=torch.long)) as matrix:
        (batch,) = true_rows(matrix, None)[0].batches()
    kinds = {type(rows) for rows in batch.rows.values()} - {BlockRows}
    assert kinds & {LinearRows, ConvolutionRows, OuterProductRows}
    for rows in batch.rows.values():
        if isinstance(rows, LinearRows | ConvolutionRows):
            assert rows.shared == CLASSES
            assert len(rows.inputs) == SAMPLES
        if isinstance(rows, OuterProductRows):
            assert rows.shared == (CLASSES if rows.lefts[0].is_floating_point() else 1)


def test_one_forward_pass_is_enough(problem):
    model, inputs = problem
    calls = []
    with GradientMatrix(model, inputs, torch.zeros(SAMPLES, dtype=torch.long)) as matrix:
        rows, _ = true_rows(matrix, None)
        handle = matrix.model.register_forward_hook(lambda *_: calls.append(1))
        rows.norms()
        handle.remove()
    assert len(calls) == 1


def test_rows_of_a_sample_are_completed_unless_they_are_many(problem):
    with GradientMatrix(*problem, torch.zeros(SAMPLES, dtype=torch.long)) as matrix:
        rows, _ = true_rows(matrix, None)
        assert rows.of_whole_samples(torch.tensor([1, 4, 9])).tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11]
        index = torch.tensor([1, 4])
        assert torch.equal(matrix.of_whole_samples(index), index)
        many = RepeatedMatrix(matrix, 5, rows._loss)
        assert torch.equal(many.of_whole_samples(index), torch.arange(5))
        assert torch.equal(many.of_whole_samples(torch.tensor([1, 9])), torch.tensor([1, 9]))
