"""Counts of outliers by checkpoint and layer."""

import numpy as np
import pandas as pd

from tests.measurements import measured


def test_one_row_for_each_checkpoint_and_layer():
    columns = {"label": 0, "loss": 0.0, "correct": True}
    parts = [
        measured.checkpoint(0, **columns, fc1=[1.0, 1, 9], network=[1.0, 2, 3]),
        measured.checkpoint(5, **columns, fc1=[2.0, 3, 4], network=[5.0, 5, 5]),
    ]
    table = measured.by_tables("outliers", {"norms": pd.concat(parts)}, outliers={"threshold": 1})
    assert table["epoch"].tolist() == [0, 0, 1.25, 1.25]
    table = table.set_index(["step", "layer"])
    wanted = ["median", "mad", "outliers_distance", "outliers_norm"]
    assert table.loc[(0, "fc1"), wanted].tolist() == [1, 0, 1, 3]
    assert table.loc[(5, "fc1"), wanted].tolist() == [3, 1, 0, 3]
    assert (table["samples"] == 3).all()


def test_of_real_norms_both_readings_are_counted():
    norms = measured.by_gradients("norms")
    table = measured.by_tables("outliers", norms, outliers={"threshold": 3, "reading": "norm"})
    for row in table.itertuples():
        values = np.linalg.norm(measured.gradients(row.step)[row.layer], axis=1)
        mad = np.median(np.abs(values - np.median(values)))
        assert row.outliers_distance == (np.abs(values - np.median(values)) > 3 * mad).sum()
        assert row.outliers_norm == (values > 3 * mad).sum()
    assert len(table) == len(measured.STEPS) * 3
