"""Histograms of a_x: symmetric edges, nothing lost, bins closed below."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fishertail.histograms import bin_edges, histogram, histogram_table

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


def test_table_holds_every_epoch_layer_and_bin():
    frame = pd.DataFrame({"epoch": [0, 0, 3], "sample": [0, 1, 0], "fc1": [0.0, 2, 3], "network": [1.0, 1, 1]})
    table = histogram_table(frame, EDGES)
    assert len(table) == 4 * (len(EDGES) - 1)
    assert table.groupby(["epoch", "layer"])["count"].sum().to_dict() == {
        (0, "fc1"): 2,
        (0, "network"): 2,
        (3, "fc1"): 1,
        (3, "network"): 1,
    }
    assert list(histogram_table(frame[:0], EDGES)) == list(table)
