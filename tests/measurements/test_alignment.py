"""Cosines and shares against dense vectors in float64."""

import numpy as np
import pytest
import torch

from fishertail.measurements import alignment
from fishertail.measurements.measurement import MeasuredCheckpoint, Pair
from tests.measurements import measured

PAIRS = 2
COSINES = ["cosine_mean_gradient", "cosine_before", "cosine_displacement"]


@pytest.fixture(scope="module")
def table():
    norms = measured.by_gradients("norms")
    spectrum = measured.by_gradients("spectrum", norms, spectrum={"eigenpairs": PAIRS, "tolerance": 1e-8})
    found = norms | spectrum | measured.by_gradients("noise_scale", norms)
    return measured.without_gradients("alignment", found).set_index(["step", "layer"])


def leading(step, layer):
    """The first right singular vectors of G: those of F."""
    return np.linalg.svd(measured.gradients(step)[layer], full_matrices=False)[2][:PAIRS]


def flat(step, layer):
    """Weights of a layer, or of both, as the gradients have them."""
    layers = measured.LAYERS if layer == "network" else [layer]
    parts = [measured.weights()[step][f"{name}.{part}"] for name in layers for part in ("weight", "bias")]
    return torch.cat([part.flatten() for part in parts]).double().numpy()


def cosine(a, b):
    return abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("layer", [*measured.LAYERS, "network"])
def test_cosines_and_shares_in_every_layer(table, layer):
    for before, step in zip((None, *measured.STEPS), measured.STEPS, strict=False):
        row, gradients, (first, *_) = table.loc[(step, layer)], measured.gradients(step)[layer], leading(step, layer)
        assert row["cosine_mean_gradient"] == pytest.approx(cosine(first, gradients.mean(0)), abs=1e-4)
        assert row["random_share"] == PAIRS / len(first)
        assert row["eigenpairs"] == PAIRS
        if before is None:
            assert row[["cosine_before", "cosine_displacement", "displacement", "leading_share"]].isna().all()
            continue
        displacement, directions = flat(step, layer) - flat(before, layer), leading(before, layer)
        assert row["cosine_before"] == pytest.approx(cosine(first, directions[0]), abs=1e-4)
        assert row["cosine_displacement"] == pytest.approx(cosine(first, displacement), abs=1e-4)
        assert row["displacement"] == pytest.approx(np.linalg.norm(displacement), rel=1e-6)
        share = np.square(directions @ displacement).sum() / (displacement @ displacement)
        assert row["leading_share"] == pytest.approx(share, abs=1e-4)


def checkpoint(vector, mean, weights):
    tensors = {"eigenvectors": {"fc": torch.tensor([vector])}, "mean_gradients": {"fc": torch.tensor(mean)}}
    return MeasuredCheckpoint(1, {}, tensors, {"fc": torch.tensor(weights)})


def measure(now, before):
    return alignment.measure(Pair(now, before), {})["alignment"].iloc[0]


def test_the_sign_of_a_vector_means_nothing():
    now = checkpoint([-1.0, 0.0], [3.0, 0.0], [2.0, 0.0])
    before = checkpoint([1.0, 0.0], [1.0, 0.0], [5.0, 0.0])
    assert measure(now, before)[[*COSINES, "leading_share"]].tolist() == [1, 1, 1, 1]


def test_vectors_of_length_zero_have_no_direction():
    zero, one = checkpoint([0.0, 0.0], [0.0, 0.0], [1.0, 1.0]), checkpoint([0.0, 1.0], [1.0, 0.0], [1.0, 1.0])
    assert measure(zero, one)[COSINES].isna().all()
    row = measure(one, zero)  # which has no directions, and has not moved
    assert row["cosine_mean_gradient"] == 0
    assert row["displacement"] == 0
    assert row[["cosine_before", "cosine_displacement", "leading_share"]].isna().all()
