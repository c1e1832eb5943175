"""Outliers by MAD: closed forms, invariants, degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fishertail.statistics.outliers import outliers

# whole numbers, so that shifting and scaling by powers of two is exact
norms = arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 1000).map(float))


def test_closed_form():
    found = outliers([1, 2, 3, 4, 100])
    assert (found.median, found.mad, found.count) == (3, 1, 1)
    assert found.mask.tolist() == [False] * 4 + [True]


def test_the_two_readings_differ():
    values = [10, 10.5, 9.5, 10.2, 9.8]
    assert outliers(values).count == 0
    assert outliers(values, reading="norm").count == 5


@given(norms, st.integers(-100, 100), st.sampled_from([0.25, 2.0, 1024.0]))
def test_mad_is_shift_and_scale_equivariant(values, shift, scale):
    found, moved = outliers(values), outliers(values * scale + shift)
    assert moved.mad == found.mad * scale
    assert moved.median == found.median * scale + shift
    np.testing.assert_array_equal(moved.mask, found.mask)


@given(norms, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(values, random):
    order = np.array(random.sample(range(len(values)), len(values)))
    np.testing.assert_array_equal(outliers(values[order]).mask, outliers(values).mask[order])


def test_mad_zero_makes_outliers_of_all_that_differ():
    assert outliers([5, 5, 5, 6]).mask.tolist() == [False, False, False, True]
    assert outliers([5, 5, 5]).count == 0
    assert outliers([0, 0, 0]).count == outliers([0, 0, 0], reading="norm").count == 0


def test_norms_that_are_not_finite_are_outliers_and_count_for_nothing_else():
    found = outliers([1, 2, 3, np.inf, np.nan])
    assert (found.median, found.mad) == (2, 1)
    assert found.mask.tolist() == [False, False, False, True, True]
    assert outliers([np.inf, np.inf]).count == 2


@pytest.mark.parametrize("bad", [[], [[1, 2]]])
def test_other_shapes_are_refused(bad):
    with pytest.raises(ValueError, match="one number for each sample"):
        outliers(bad)


def test_unknown_readings_are_refused():
    with pytest.raises(ValueError, match="reading: one of distance, norm expected, found 'both'"):
        outliers([1], reading="both")
