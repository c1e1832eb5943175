"""Trimming leaves out the largest, and B is the mean square of what stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fishertail.statistics.trimming import decrease, trimmed, trimmed_at_both_ends, trimmed_eigenvalue


@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-10, 10)), st.floats(0.01, 0.99))
def test_trimming_leaves_out_the_largest(a_x, fraction):
    keep = trimmed(a_x, fraction)
    assert (~keep).sum() == int(fraction * len(a_x))
    if keep.any() and not keep.all():
        assert np.abs(a_x[keep]).max() <= np.abs(a_x[~keep]).min()


def test_trimming_ties_leaves_out_the_first_of_them():
    a_x = np.random.default_rng(0).integers(-3, 4, 1000)
    largest_first = sorted(range(1000), key=lambda sample: (-abs(a_x[sample]), sample))
    assert np.flatnonzero(~trimmed(a_x, 0.1)).tolist() == sorted(largest_first[:100])


def test_trimmed_eigenvalue_is_the_mean_square_of_what_stays():
    assert trimmed_eigenvalue(np.array([-10.0, 1, 2, 3, 1, 1, 1, 1, 1, 1]), 0.1) == pytest.approx(20 / 9)


@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-10, 10)), st.floats(0.01, 0.99))
def test_both_ends_lose_as_many_samples(a_x, fraction):
    keep = trimmed_at_both_ends(a_x, fraction)
    each = int(fraction / 2 * len(a_x))
    middle = np.sort(a_x)[each : len(a_x) - each]
    assert len(middle) > 0
    np.testing.assert_array_equal(np.sort(a_x[keep]), middle)


@given(st.sets(st.integers(1, 500), min_size=2, max_size=40), st.sampled_from([0.1, 0.2, 0.5]))
def test_of_symmetric_values_both_readings_keep_the_same(sizes, fraction):
    half = np.array(sorted(sizes), dtype=float)
    a_x = np.concatenate([half, -half])
    each = int(fraction / 2 * len(a_x))
    by_size = trimmed(a_x, 2 * each / len(a_x) + 1e-9)
    np.testing.assert_array_equal(trimmed_at_both_ends(a_x, fraction), by_size)


def test_of_one_sign_both_ends_keep_what_is_large():
    a_x = np.arange(1.0, 21)
    assert trimmed_at_both_ends(a_x, 0.1).tolist() == [False, *[True] * 18, False]
    assert trimmed(a_x, 0.1).tolist() == [*[True] * 18, False, False]


@pytest.mark.parametrize(("largest", "left", "percent"), [(4, 1, 75), (2, 2, 0), (0, 0, 0), (3, 0, 100)])
def test_the_decrease_is_in_per_cent_and_0_of_nothing(largest, left, percent):
    assert decrease(largest, left) == percent


def test_the_decrease_of_what_is_not_defined_is_none():
    assert np.isnan(decrease(np.nan, np.nan))
    assert np.isnan(decrease(np.inf, np.inf))
