"""The epoch of lowest validation loss, and whether it was passed."""

import pandas as pd
import pytest

from fishertail.metrics import METRICS_COLUMNS, Metrics, lowest_validation_loss, metrics_table


@pytest.mark.parametrize(
    ("losses", "epoch", "status"),
    [
        ([3, 1, 2], 1, "reached"),
        ([3, 2, 1], 2, "not reached: extend epochs"),
        ([3, 1, 1], 1, "reached"),
        ([1], 0, "not reached: extend epochs"),
    ],
)
def test_lowest_validation_loss(losses, epoch, status):
    table = pd.DataFrame({"epoch": range(len(losses)), "validation_loss": losses})
    for frame in (table, table[::-1]):
        found = lowest_validation_loss(frame)
        assert (found.epoch, found.status) == (epoch, status)


def test_table_has_a_row_an_epoch():
    table = metrics_table({0: Metrics(1, 2, 3, 4), 1: Metrics(5, 6, 7, 8)})
    assert list(table) == METRICS_COLUMNS
    assert table.to_numpy().tolist() == [[0, 1, 2, 3, 4], [1, 5, 6, 7, 8]]
