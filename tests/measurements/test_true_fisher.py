"""The true Fisher matrix against a dense sum over classes, and against curvlinops' Gauss-Newton matrix."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from fishertail.errors import UnsupportedModelError
from fishertail.fisher.eigenpairs import scopes_of
from fishertail.fisher.true_fisher import true_eigenpairs
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.squared_error import squared_error
from fishertail.measurements.measurement import measurements
from tests.measurements import measured
from tests.truth import dense_gradients

LAYERS = [*measured.LAYERS, "network"]


@pytest.fixture(scope="module")
def tables():
    norms = measured.by_gradients("norms")
    return norms | measured.by_gradients("spectrum", norms, spectrum={"eigenpairs": 2})


@pytest.fixture(scope="module")
def found(tables):
    options = {"eigenpairs": 2, "tolerance": 1e-5, "fraction": 0.25}
    return measured.by_gradients("true_fisher", tables, true_fisher=options)


@cache
def rows_of_classes(step, layer):
    """(N, C, P) float64: sqrt(p_c) times the gradient for the label c."""
    model = measured.network()
    model.load_state_dict(measured.weights()[step])
    inputs, _ = measured.samples()
    probabilities = copy.deepcopy(model).double()(inputs.double()).softmax(1).detach().numpy()
    rows = []
    for label in range(3):
        gradients = dense_gradients(model, inputs, torch.full((len(inputs),), label))
        of_layer = gradients | {"network": np.concatenate([gradients[name] for name in measured.LAYERS], axis=1)}
        rows.append(np.sqrt(probabilities[:, label, None]) * of_layer[layer])
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("layer", LAYERS)
def test_eigenvalues_and_trace_are_those_of_the_sum_over_classes(found, tables, layer):
    for step in measured.STEPS:
        truth = rows_of_classes(step, layer)
        values = np.linalg.svd(truth.reshape(-1, truth.shape[2]), compute_uv=False) ** 2 / measured.SAMPLES
        rows = found["true_fisher"].query("step == @step and layer == @layer")
        np.testing.assert_allclose(rows["eigenvalue"], values[:2], rtol=1e-5)
        np.testing.assert_allclose(rows["trace"], values.sum(), rtol=1e-5)
        empirical = tables["spectrum"].query("step == @step and layer == @layer")["eigenvalue"].to_numpy()
        np.testing.assert_allclose(rows["ratio"], values[:2] / empirical, rtol=1e-4)
        assert rows["converged"].all()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_angle_and_what_stays_without_the_samples_that_carry_it(found, layer):
    for step in measured.STEPS:
        truth, empirical = rows_of_classes(step, layer), measured.gradients(step)[layer]
        first = np.linalg.svd(truth.reshape(-1, truth.shape[2]), full_matrices=False)[2][0]
        other = np.linalg.svd(empirical, full_matrices=False)[2][0]
        rows = found["true_fisher"].query("step == @step and layer == @layer and rank == 1")
        assert rows["angle"].item() == pytest.approx(np.degrees(np.arccos(min(abs(first @ other), 1))), abs=0.1)
        squares = np.square(truth @ first).sum(1)
        row = found["true_fisher_trimmed"].query("step == @step and layer == @layer").iloc[0]
        assert row["left_out"] == 15
        assert row["A"] == pytest.approx(squares.mean(), rel=1e-4)
        assert row["B"] == pytest.approx(np.sort(squares)[:-15].mean(), rel=1e-3)
        assert row["decrease_percent"] == pytest.approx(100 * (1 - row["B"] / row["A"]))
        a_x = np.sort(np.square(empirical @ other))
        expected = 100 * (1 - a_x[:-15].mean() / a_x.mean())
        assert row["empirical_decrease_percent"] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("loss", [None, nn.MSELoss(), nn.MSELoss(reduction="sum")], ids=["ce", "mse", "squares"])
def test_it_is_the_gauss_newton_matrix(loss):
    from curvlinops import GGNLinearOperator

    model, (inputs, labels) = measured.network(), measured.samples()
    model.load_state_dict(measured.weights()[0])
    targets = labels if loss is None else torch.randn(len(inputs), 3, generator=torch.Generator().manual_seed(2))
    with GradientMatrix(model, inputs, targets, loss=loss, batch_size=7) as matrix:
        found = true_eigenpairs(matrix, loss, scopes_of(matrix), k=3, rtol=1e-6)["network"]
    exact = copy.deepcopy(model).double()
    data = [(inputs.double(), targets.double() if targets.is_floating_point() else targets)]
    operator = GGNLinearOperator(exact, loss or nn.CrossEntropyLoss(), list(exact.parameters()), data)
    dense = operator @ torch.eye(operator.shape[0], dtype=torch.float64)
    dense /= len(inputs) if loss is not None and loss.reduction == "sum" else 1
    np.testing.assert_allclose(found.eigenvalues, torch.linalg.eigvalsh(dense).flip(0)[:3].numpy(), rtol=1e-6)
    assert found.trace == pytest.approx(float(dense.trace()), rel=1e-6)


def test_half_the_squared_distance_from_the_label_has_half_the_matrix_of_the_whole():
    """The Gauss-Newton matrix of a sum of squares is that of the test above."""
    model, (inputs, labels) = measured.network(), measured.samples()
    model.load_state_dict(measured.weights()[0])
    wanted = nn.functional.one_hot(labels, 3).float()
    found = []
    for targets, loss in ((labels, squared_error), (wanted, nn.MSELoss(reduction="sum"))):
        with GradientMatrix(model, inputs, targets, loss=loss) as matrix:
            found.append(true_eigenpairs(matrix, loss, scopes_of(matrix), k=3, rtol=1e-6)["network"])
    half, whole = found
    np.testing.assert_allclose(2 * half.eigenvalues, whole.eigenvalues, rtol=1e-5)
    assert 2 * half.trace == pytest.approx(whole.trace, rel=1e-6)


def test_labels_play_no_role_and_certain_predictions_leave_nothing(found):
    model, (inputs, labels) = measured.network(), measured.samples()
    model.load_state_dict(measured.weights()[0])
    with GradientMatrix(model, inputs, (labels + 1) % 3) as matrix:
        other = true_eigenpairs(matrix, None, scopes_of(matrix), rtol=1e-5)["network"]
    first = found["true_fisher"].query("step == 0 and layer == 'network' and rank == 1")["eigenvalue"].item()
    assert other.eigenvalues[0] == pytest.approx(first, rel=1e-4)
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.bias.copy_(torch.tensor([0.0, 4000.0, 0.0]))
    with GradientMatrix(model, inputs, labels) as matrix:
        nothing = true_eigenpairs(matrix, None, scopes_of(matrix))
    assert all((pairs.eigenvalues == 0).all() and pairs.converged.all() for pairs in nothing.values())


def test_what_has_no_known_distribution_is_refused_at_the_start():
    check = measurements()["true_fisher"].check
    check(measured.network(), nn.MSELoss())
    for loss, name in ((nn.functional.l1_loss, "l1_loss"), (nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropy")):
        with pytest.raises(UnsupportedModelError, match=f"distribution behind the loss {name}"):
            check(measured.network(), loss)


def test_many_classes_and_several_positions_are_refused(tables):
    with pytest.raises(UnsupportedModelError, match="3 outputs per sample, so that a sweep costs 3 backward passes"):
        measured.by_gradients("true_fisher", tables, true_fisher={"most_classes": 2})
    tokens = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    with (
        GradientMatrix(tokens, torch.arange(20).reshape(5, 4) % 5, torch.zeros(5, 4, dtype=torch.long)) as matrix,
        pytest.raises(UnsupportedModelError, match=r"outputs \(N, classes\) expected, found \(N, 4, 3\)"),
    ):
        true_eigenpairs(matrix, None, scopes_of(matrix))
