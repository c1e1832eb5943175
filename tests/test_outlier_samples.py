import numpy as np
import pandas as pd

from fishertail.ax_statistics import ax_statistics
from fishertail.outlier_samples import COLUMNS, of_blocks, outlier_samples


def test_statistics_of_a_x():
    values = np.array([0.0, -0.05, 0.2, -7.0])
    table = ax_statistics(pd.DataFrame({"epoch": 3, "sample": range(4), "fc4": values, "network": 10 * values}))
    first, second = table.to_dict("records")
    assert (first["epoch"], first["layer"], first["samples"]) == (3, "fc4", 4)
    assert (first["near_zero_share"], first["largest"]) == (0.5, 7)
    assert (second["near_zero_share"], second["largest"], second["median"]) == (0.25, 70, 1.25)


def test_the_samples_of_largest_norm_come_first_with_what_is_known_of_them():
    norms = np.array([1.0, 1.1, 30, 0.9, 1.05, 50])
    gradients = pd.DataFrame({"epoch": 2, "sample": range(6), "loss": norms, "correct": norms < 40, "fc4": norms})
    gradients["network"] = norms
    projections = pd.DataFrame({"epoch": 2, "sample": range(6), "fc4": -norms, "network": norms})
    table = outlier_samples(gradients, projections, np.arange(6) + 10, layer="fc4", count=3)
    assert list(table) == COLUMNS
    assert table["sample"].tolist() == [5, 2]
    assert table["label"].tolist() == [15, 12]
    assert table["a_x"].tolist() == [-50, -30]
    assert table["correct"].tolist() == [False, True]


def test_outliers_are_shown_where_they_are_the_smallest():
    norms = np.append(np.linspace(9.9, 10.1, 20), 1.0)
    gradients = pd.DataFrame({"epoch": 2, "sample": range(21), "loss": norms, "correct": True, "network": norms})
    table = outlier_samples(gradients, gradients[["epoch", "sample", "network"]], np.zeros(21), layer="network")
    assert table["sample"].tolist() == [20]


def test_the_epoch_of_lowest_validation_loss_is_shown_once_whether_or_not_its_block_analysed_it():
    norms = np.array([1.0, 1.1, 0.9, 50])
    blocks = []
    for epochs in ([1, 2], [3, 4]):
        rows = [
            {"epoch": e, "sample": i, "loss": 1.0, "correct": True, "network": norms[i]}
            for e in epochs
            for i in range(4)
        ]
        gradients = pd.DataFrame(rows)
        blocks.append((gradients, gradients.loc[gradients["epoch"] == epochs[0], ["epoch", "sample", "network"]]))
    for minimum, expected in ((3, [1, 3]), (4, [1, 3, 4])):
        gradients = blocks[1][0]
        at_minimum = gradients.loc[gradients["epoch"] == minimum, ["epoch", "sample", "network"]]
        table = of_blocks(blocks, at_minimum, np.arange(4), layer="network")
        assert table["epoch"].tolist() == expected
        assert set(table["sample"]) == {3}


def test_epochs_without_projections_are_left_out():
    gradients = pd.DataFrame({"epoch": [1], "sample": [0], "loss": [1.0], "correct": [True], "network": [1.0]})
    none = pd.DataFrame({"epoch": [], "sample": [], "network": []})
    assert outlier_samples(gradients, none, np.zeros(1), layer="network").empty
