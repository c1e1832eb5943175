"""Mean and noise of gradients, and where the ratio of the two falls below 1."""

import numpy as np
import pytest

from fishertail.statistics.noise import Noise, crossing


def test_noise_is_that_of_the_samples_around_their_mean():
    gradients = np.random.default_rng(0).normal(0.3, 2, (50, 7))
    found = Noise(float(np.linalg.norm(gradients.mean(0))), float(np.square(gradients).sum(1).mean()))
    covariance = np.cov(gradients.T, bias=True)
    assert found.covariance_trace == pytest.approx(np.trace(covariance), rel=1e-12)
    assert found.noise_scale == pytest.approx(np.trace(covariance) / np.square(gradients.mean(0)).sum(), rel=1e-12)
    assert found.signal_to_noise == pytest.approx(found.noise_scale**-0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("mean", "trace", "scale", "ratio"),
    [
        (0.0, 0.0, np.nan, np.nan),  # all gradients are 0
        (0.0, 4.0, np.inf, 0.0),  # they cancel
        (2.0, 4.0 * (1 + 1e-8), 0.0, np.inf),  # they are equal, but for rounding
        (2.0, 4.0 * (1 - 1e-8), 0.0, np.inf),
        (np.nan, np.inf, np.nan, np.nan),  # one is not finite
    ],
)
def test_degenerate_gradients_have_their_outcome(mean, trace, scale, ratio):
    found = Noise(mean, trace)
    np.testing.assert_equal([found.noise_scale, found.signal_to_noise], [scale, ratio])


def test_the_crossing_of_a_power_law_is_found_exactly():
    steps = np.array([0, 1, 2, 4, 8, 16, 32])
    ratios = 5 / (1 + steps) ** 0.7
    assert crossing(steps, ratios) == pytest.approx(5 ** (1 / 0.7) - 1, rel=1e-12)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.9, 0.5, 0.1, 0.2], np.nan),  # always below
        ([3.0, 2.0, 1.5, 1.0], np.nan),  # never below
        ([0.5, 0.9, 2.0, 3.0], np.nan),  # upwards alone
        ([0.5, 2.0, 0.5, 0.4], np.sqrt(2 * 4) - 1),  # halfway between 1 and 3 in log(1 + step)
        ([2.0, 0.5, 2.0, 0.5], np.sqrt(2) - 1),  # the first of two
        ([4.0, np.nan, 0.25, 0.1], 1.0),  # over a checkpoint without a ratio
        ([np.nan, np.nan, np.nan, np.nan], np.nan),
    ],
)
def test_the_first_crossing_downwards_counts(ratios, expected):
    np.testing.assert_allclose(crossing([0, 1, 3, 7], ratios), expected, rtol=1e-12)


def test_a_ratio_that_falls_from_infinity_to_zero_crosses_between():
    assert 0 <= crossing([0, 8], [np.inf, 0.0]) <= 8
