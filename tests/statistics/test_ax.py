"""Histograms of a_x: symmetric edges, nothing lost, bins closed below; and its distribution in a few numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fishertail.statistics.ax import bin_edges, histogram, sizes

EDGES = bin_edges()


def test_edges_are_symmetric_increasing_and_open_at_the_ends():
    assert np.isinf(EDGES[[0, -1]]).all()
    np.testing.assert_array_equal(EDGES, -EDGES[::-1])
    assert (np.diff(EDGES) > 0).all()
    assert EDGES[-2] == pytest.approx(1e4)
    assert len(EDGES) == 2 * (12 * 4 + 1) + 2


@given(arrays(np.float64, st.integers(0, 100), elements=st.floats(allow_nan=False)))
def test_counts_add_up(a_x):
    assert histogram(a_x, EDGES).sum() == len(a_x)


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6)))
def test_counts_are_those_of_numpy(a_x):
    np.testing.assert_array_equal(histogram(a_x, EDGES), np.histogram(a_x, np.nan_to_num(EDGES))[0])


def test_zero_is_in_the_middle_and_overflow_at_the_ends():
    counts = histogram([0, 1e-9, -1e-9, 1e5, np.inf, -np.inf], EDGES)
    assert counts[len(counts) // 2] == 3
    assert (counts[-1], counts[0]) == (2, 1)


def test_a_value_on_an_edge_is_in_the_bin_above():
    edge = len(EDGES) - 2
    assert histogram([EDGES[edge]], EDGES)[edge] == 1


def test_nan_is_refused():
    with pytest.raises(ValueError, match="found NaN"):
        histogram([np.nan], EDGES)


def test_the_last_step_ends_at_the_largest_whatever_the_bins():
    edges = bin_edges(1e-3, 5e2, 7)
    assert (edges[-2], edges[len(edges) // 2]) == (500, pytest.approx(1e-3))
    steps = np.diff(np.log10(edges[len(edges) // 2 : -1]))
    np.testing.assert_allclose(steps, steps[0])


def test_the_distribution_of_a_x_in_a_few_numbers():
    found = sizes([0.0, -0.05, 0.2, -7.0])
    assert (found["samples"], found["near_zero_share"], found["largest"]) == (4, 0.5, 7)
    assert found["median"] == pytest.approx((0.05 + 0.2) / 2)
    assert sizes([0.0, -0.05, 0.2, -7.0], near_zero=0.01)["near_zero_share"] == 0.25


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6)))
def test_quantiles_are_ordered_and_at_most_the_largest(a_x):
    found = sizes(a_x)
    values = [found[name] for name in ("median", "quantile_90", "quantile_99", "largest")]
    assert values == sorted(values)
    assert found["largest"] == np.abs(a_x).max()
