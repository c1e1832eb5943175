"""Which training samples are the outliers."""

import numpy as np
import pandas as pd

from fishertail.execution import measuring
from fishertail.measurements.measurement import measurements
from tests.measurements import measured

COLUMNS = ["step", "epoch", "sample", "label", "loss", "correct", "gradient_norm"]


def norms_at(step: int, norms, **columns) -> pd.DataFrame:
    norms = np.asarray(norms, dtype=float)
    known = {"label": np.arange(len(norms)) + 10, "loss": norms, "correct": norms < 40, "network": norms}
    return measured.checkpoint(step, **known | columns)


def test_the_samples_of_largest_norm_come_first_with_what_is_known_of_them():
    norms = np.array([1.0, 1.1, 30, 0.9, 1.05, 50])
    tables = {
        "norms": norms_at(2, norms, fc4=norms),
        "projections": measured.checkpoint(2, fc4=-norms, network=norms),
    }
    table = measured.by_tables("outlier_samples", tables, outlier_samples={"count": 3})
    assert list(table) == [*COLUMNS, "fc4", "network"]
    assert table["sample"].tolist() == [5, 2]
    assert table["label"].tolist() == [15, 12]
    assert table["gradient_norm"].tolist() == [50, 30]
    assert table["fc4"].tolist() == [-50, -30]
    assert table["network"].tolist() == [50, 30]
    assert table["correct"].tolist() == [False, True]


def test_no_more_than_asked_for_are_listed():
    norms = [1.0, 1.1, 30, 0.9, 1.05, 50]
    tables = {"norms": norms_at(2, norms), "projections": measured.checkpoint(2, network=norms)}
    assert measured.by_tables("outlier_samples", tables, outlier_samples={"count": 1})["sample"].tolist() == [5]


def test_what_an_outlier_is_comes_from_the_measurement_of_outliers():
    norms = [1.0, 1.1, 1.4, 0.9, 1.05, 50]
    tables = {"norms": norms_at(2, norms), "projections": measured.checkpoint(2, network=norms)}
    table = measured.by_tables("outlier_samples", tables, outliers={"threshold": 2})
    assert table["sample"].tolist() == [5, 2]


def test_outliers_are_shown_where_they_are_the_smallest():
    norms = np.append(np.linspace(9.9, 10.1, 20), 1.0)
    tables = {"norms": norms_at(2, norms), "projections": measured.checkpoint(2, network=norms)}
    assert measured.by_tables("outlier_samples", tables)["sample"].tolist() == [20]


def test_the_epoch_of_lowest_validation_loss_is_shown_once_whether_or_not_its_block_analysed_it():
    """The tables of two blocks and of the landmarks, which repeat a checkpoint of a block or add one."""
    norms, each = [1.0, 1.1, 0.9, 50], measurements()["outlier_samples"]
    for landmark, expected in ((12, [4, 12]), (16, [4, 12, 16])):
        parts = []
        for measured_at, with_a_x in (([4, 8], [4]), ([12, 16], [12]), ([landmark], [landmark])):
            tables = {
                "norms": pd.concat([norms_at(step, norms) for step in measured_at]),
                "projections": pd.concat([measured.checkpoint(step, network=norms) for step in with_a_x]),
            }
            parts.append({each.name: measured.by_tables(each.name, tables)})
        table = measuring.merged(each, parts)[each.name]
        assert table["step"].tolist() == expected
        assert set(table["sample"]) == {3}


def test_checkpoints_without_a_x_are_left_out():
    tables = {"norms": norms_at(1, [1.0, 1, 50]), "projections": measured.checkpoint(2, network=[1.0, 1, 50])}
    assert not len(measuring.by_tables(measurements()["outlier_samples"], {}, tables)["outlier_samples"])
