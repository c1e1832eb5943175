"""How well the training data are fitted, beside the share of outliers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from fishertail.measurements.measurement import measurements
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from tests.measurements import measured

NORMS = np.array([1.0, 2, 3, 4, 5, 90, 100, 110])


def test_loss_accuracy_and_outliers():
    norms = measured.checkpoint(3, label=0, loss=NORMS, correct=NORMS > 3, fc1=0.0, network=NORMS)
    (row,) = measured.by_tables("fit", {"norms": norms}).to_dict("records")
    assert row == {"step": 3, "epoch": 0.75, "train_loss": 39.375, "train_accuracy": 0.625, "outlier_share": 0.375}
    wider = measured.by_tables("fit", {"norms": norms}, outliers={"threshold": 30})
    assert wider["outlier_share"].item() == 0.25  # further than 30 x 3 from 4.5


def test_samples_without_classes_have_no_accuracy():
    norms = measured.checkpoint(3, label=np.nan, loss=NORMS, correct=np.nan, network=NORMS)
    assert measured.by_tables("fit", {"norms": norms})["train_accuracy"].isna().all()


def test_the_loss_of_samples_one_of_which_has_none_is_none():
    norms = measured.checkpoint(3, label=0, loss=np.where(NORMS == 2, np.nan, NORMS), correct=NORMS > 3, network=NORMS)
    (row,) = measured.by_tables("fit", {"norms": norms}).to_dict("records")
    assert np.isnan(row["train_loss"])
    assert row["train_accuracy"] == 0.625


def test_the_figure_says_the_rank_correlation_of_all_checkpoints():
    generator = np.random.default_rng(0)
    rows = pd.DataFrame({"step": np.tile(np.arange(20), 2), "epoch": 0.5, "seed": np.repeat([0, 1], 20)})
    rows = rows.assign(dataset="mnist", model="fc", batch_size=16)
    loss = generator.uniform(0.1, 2, 40)
    metrics = rows.assign(train_loss=loss, train_accuracy=np.exp(-loss))
    counts = np.maximum(60 - 40 * loss + generator.normal(0, 5, 40), 0).round()
    outliers = rows.assign(layer="network", outliers_distance=counts, outliers_norm=0, samples=100)
    named = [dict(zip(RUN, ("mnist", "fc", 16, seed), strict=True)) for seed in (0, 1)]
    (figure,) = measurements()["fit"].figures
    tables = {"metrics": metrics.iloc[1:], "outliers": outliers}
    drawn, table = figure.draw(Results(named, tables, {"measurements.outliers.reading": "distance"}))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in drawn.axes]
    expected = spearmanr(loss[1:], counts[1:]).statistic
    assert titles[1] == f"rank correlation {expected:.3f}\n(2 runs, 39 checkpoints)"
    assert titles[0] == titles[1]  # of 1 - accuracy, which grows with the loss here
    assert table["outlier_share"].to_numpy() == pytest.approx(counts[1:] / 100)
    plt.close("all")


def test_the_figure_says_where_there_is_no_rank_correlation():
    run = dict(zip(RUN, ("mnist", "fc", 16, 0), strict=True))
    rows = pd.DataFrame({"step": [0, 4], "epoch": [0.0, 1.0]}).assign(**run)
    metrics = rows.assign(train_loss=[2.0, 1.0], train_accuracy=[0.1, 0.5])
    outliers = rows.assign(layer="network", outliers_distance=0, outliers_norm=0, samples=100)
    (figure,) = measurements()["fit"].figures
    tables = {"metrics": metrics, "outliers": outliers}
    drawn, _ = figure.draw(Results([run], tables, {"measurements.outliers.reading": "distance"}))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in drawn.axes]
    assert titles == ["no rank correlation\n(1 run, 2 checkpoints)"] * 2
    plt.close("all")
