"""The distribution of a_x in a few numbers, by checkpoint and layer."""

import numpy as np

from tests.measurements import measured


def test_statistics_of_a_x():
    values = np.array([0.0, -0.05, 0.2, -7.0])
    projections = measured.checkpoint(3, fc4=values, network=10 * values)
    table = measured.by_tables("ax_statistics", {"projections": projections})
    first, second = table.to_dict("records")
    assert (first["step"], first["epoch"], first["layer"], first["samples"]) == (3, 0.75, "fc4", 4)
    assert (first["near_zero_share"], first["largest"]) == (0.5, 7)
    assert (second["near_zero_share"], second["largest"], second["median"]) == (0.25, 70, 1.25)


def test_what_is_near_zero_is_an_option():
    projections = measured.checkpoint(3, fc4=[0.0, -0.05, 0.2, -7.0])
    table = measured.by_tables("ax_statistics", {"projections": projections}, ax_statistics={"near_zero": 1})
    assert table["near_zero_share"].tolist() == [0.75]
