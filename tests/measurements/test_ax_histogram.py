"""Histograms of a_x by checkpoint, layer and bin."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fishertail.measurements.ax_histogram import HistogramOptions
from fishertail.statistics.ax import bin_edges
from tests.measurements import measured

PROJECTIONS = pd.concat(
    [measured.checkpoint(0, fc1=[0.0, 2], network=[1.0, 1]), measured.checkpoint(3, fc1=[3.0], network=[1.0])]
)


def test_table_holds_every_checkpoint_layer_and_bin():
    table = measured.by_tables("ax_histogram", {"projections": PROJECTIONS})
    edges = bin_edges()
    assert len(table) == 4 * (len(edges) - 1)
    assert table.groupby(["step", "layer"])["count"].sum().to_dict() == {
        (0, "fc1"): 2,
        (0, "network"): 2,
        (3, "fc1"): 1,
        (3, "network"): 1,
    }
    one = table.query("step == 3 and layer == 'fc1' and count > 0").iloc[0]
    assert one["bin_left"] <= 3 < one["bin_right"]
    assert set(table["epoch"]) == {0, 0.75}


def test_the_bins_are_those_of_the_options():
    options = {"smallest": 1e-2, "largest": 1e2, "bins_per_decade": 1}
    table = measured.by_tables("ax_histogram", {"projections": PROJECTIONS}, ax_histogram=options)
    edges = table.query("step == 0 and layer == 'network'")["bin_right"]
    np.testing.assert_allclose(edges[edges > 0], [0.01, 0.1, 1, 10, 100, np.inf])


def test_the_smallest_is_less_than_the_largest():
    with pytest.raises(ValidationError, match="smallest less than largest"):
        HistogramOptions(smallest=2e4)
