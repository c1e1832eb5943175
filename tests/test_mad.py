"""Outliers by MAD and trimming: closed forms, invariants, degenerate inputs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fishertail.mad import outlier_table, outliers, trimmed, trimmed_eigenvalue

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
    with pytest.raises(ValueError, match="one number a sample"):
        outliers(bad)


def test_unknown_readings_are_refused():
    with pytest.raises(ValueError, match="reading: one of distance, norm expected, found 'both'"):
        outliers([1], reading="both")


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


def test_table_of_epochs_and_layers():
    frame = pd.DataFrame({"epoch": [0, 0, 0, 1, 1, 1], "sample": [0, 1, 2] * 2, "loss": 0.0, "correct": True})
    frame["fc1"], frame["network"] = [1, 1, 9, 2, 3, 4], [1, 2, 3, 5, 5, 5]
    table = outlier_table(frame, threshold=1).set_index(["epoch", "layer"])
    assert table.loc[(0, "fc1"), ["median", "mad", "outliers_distance", "outliers_norm"]].tolist() == [1, 0, 1, 3]
    assert table.loc[(1, "fc1"), ["median", "mad", "outliers_distance", "outliers_norm"]].tolist() == [3, 1, 0, 3]
    assert (table["samples"] == 3).all()
