"""The ranking of samples, by scores whose truth is at hand."""

import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from fishertail import RunAnalysis, analyse_run, rank_samples
from tests.measurements import measured


@pytest.fixture(scope="module")
def analysis():
    measurements = ["norms", "spectrum", "sample_scores"]
    return analyse_run(
        measured.network(), measured.weights(), *measured.samples(), measurements=measurements, device="cpu"
    )


@pytest.mark.parametrize("score", ["grand", "loss", "el2n", "a_x", "outlier_share"])
def test_the_largest_mean_comes_first(score, analysis):
    found = rank_samples(
        measured.network(), *measured.samples(), checkpoints=measured.weights(), score=score, device="cpu"
    )
    again = rank_samples(analysis, score=score)
    assert sorted(found["sample"]) == list(range(measured.SAMPLES))
    assert found[score].is_monotonic_decreasing
    np.testing.assert_allclose(found.sort_values("sample")[score], again.sort_values("sample")[score], rtol=1e-4)


def test_grand_is_the_mean_norm_over_the_checkpoints(analysis):
    truth = np.mean([np.linalg.norm(measured.gradients(step)["first"], axis=1) for step in measured.STEPS], axis=0)
    found = rank_samples(analysis, score="grand", layer="first")
    np.testing.assert_allclose(found["grand"], truth[found["sample"]], rtol=1e-5, atol=1e-9)
    assert found["sample"].tolist() == np.argsort(-truth, kind="stable").tolist()


def test_a_network_without_checkpoints_is_ranked_as_it_is_and_left_so():
    model, (images, labels) = measured.network(), measured.samples()
    before = copy.deepcopy(model.state_dict())
    found = rank_samples(model, images, labels, device="cpu")
    losses = nn.functional.cross_entropy(model(images), labels, reduction="none").detach().numpy()
    np.testing.assert_allclose(found["loss"], losses[found["sample"]], rtol=1e-4, atol=1e-6)
    assert found["label"].tolist() == labels[found["sample"].tolist()].tolist()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert "a_x" not in found


def test_wrong_labels_come_first():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    images = 5 * torch.eye(3)[labels] + torch.randn(300, 3, generator=generator)
    labels[:30] = (labels[:30] + 1) % 3
    model = nn.Linear(3, 3)
    model.weight.data, model.bias.data = torch.eye(3), torch.zeros(3)
    for score in ("grand", "loss", "el2n", "a_x"):
        found = rank_samples(model, images, labels, score=score, device="cpu")
        assert average_precision_score(found["sample"] < 30, found[score]) > (0.4 if score == "a_x" else 0.95), score


def test_another_loss_has_no_el2n():
    model, (images, labels), loss = nn.Linear(6, 3), measured.samples(), nn.MultiMarginLoss()
    found = rank_samples(model, images, labels, loss=loss, device="cpu")
    truth = [loss(model(x[None]), y[None]).item() for x, y in zip(images, labels, strict=True)]
    np.testing.assert_allclose(found["loss"], sorted(truth, reverse=True), rtol=1e-4, atol=1e-5)
    assert "el2n" not in found


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"score": "size"}, ValueError, "score: among grand, el2n, loss, a_x, outlier_share expected, found 'size'"),
        ({"images": torch.ones(2, 6)}, ValueError, "none expected with a RunAnalysis"),
        ({"layer": "third", "score": "grand"}, ValueError, "score: one that the tables have expected"),
    ],
)
def test_what_does_not_fit_is_refused(analysis, arguments, error, message):
    with pytest.raises(error, match=message):
        rank_samples(analysis, **arguments)


def test_an_analysis_without_norms_is_refused(analysis):
    alone = RunAnalysis({"sample_scores": analysis.tables["sample_scores"]})
    with pytest.raises(ValueError, match=r"a RunAnalysis with norms expected, .*; found sample_scores"):
        rank_samples(alone, score="el2n")


def test_a_network_needs_samples():
    with pytest.raises(TypeError, match="images, labels: samples expected with a network"):
        rank_samples(measured.network())
