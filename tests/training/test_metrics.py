"""The table of metrics."""

from fishertail.training.metrics import METRICS, Metrics, metrics_table


def test_table_has_one_row_for_each_checkpoint():
    table = metrics_table({0: Metrics(1, 2, 3, 4), 6: Metrics(5, 6, 7, 8)}, per_epoch=4)
    assert list(table) == METRICS.names
    assert table.to_numpy().tolist() == [[0, 0, 1, 2, 3, 4], [6, 1.5, 5, 6, 7, 8]]
