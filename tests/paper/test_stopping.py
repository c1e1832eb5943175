"""The estimator of the end of generalization, on runs whose end is known."""

import numpy as np
import pandas as pd
import pytest

import fishertail
from fishertail.paper import stopping

EPOCHS = np.arange(0, 41)
STEPS = 8  # of an epoch


def run(dataset: str, seed: int, minimum: int, *, signal: int | None = None) -> tuple[pd.DataFrame, ...]:
    """Outliers pass a tenth of the samples at `signal`, by default the minimum; the training loss tells nothing."""
    named = {"dataset": dataset, "model": "fc", "batch_size": 16, "seed": seed}
    loss = np.abs(EPOCHS - minimum) + 0.0
    accuracy = 0.9 - 0.001 * np.abs(EPOCHS - minimum)
    train = np.exp(-EPOCHS / (seed + 1))  # of a different speed in each
    metrics = {"train_loss": train, "validation_loss": loss, "validation_accuracy": accuracy}
    counts = np.where((minimum if signal is None else signal) <= EPOCHS, 150, 10)
    times = {"step": STEPS * EPOCHS, "epoch": EPOCHS.astype(float)}
    counted = {"outliers_distance": counts, "samples": 1000}
    return pd.DataFrame({**named, **times, **metrics}), pd.DataFrame({**named, **times, **counted})


def grid(*runs):
    return [pd.concat(tables, ignore_index=True) for tables in zip(*runs, strict=True)]


def test_an_estimator_whose_signal_is_true_finds_every_minimum():
    tables = grid(run("mnist", 0, 5), run("mnist", 1, 9), run("cifar10", 2, 20))
    evaluation = stopping.evaluate(*tables)
    ours = evaluation[evaluation["rule"] == "outliers"]
    assert (ours["epoch"] == ours["true_epoch"]).all()
    assert (ours["error"] == 0).all()
    assert (ours["accuracy_cost"] == 0).all()
    table = stopping.summary(evaluation, stopping.thresholds(*tables))
    ours = table.set_index(["left_out", "rule"]).loc[("data set and model", "outliers")]
    assert (ours["within_factor_2"], ours["threshold"]) == (1, 0.15)
    losses, of_loss = tables[0]["train_loss"], table[table["rule"] == "training loss"]["threshold"]
    assert of_loss.between(losses.min(), losses.max()).all()
    assert "works better than" in stopping.finding(table)


def test_a_difference_that_networks_do_not_agree_on_is_none():
    runs = run("mnist", 0, 5), run("cifar10", 1, 33), run("digits", 2, 20, signal=2)
    table = stopping.summary(stopping.evaluate(*grid(*runs)), {})
    assert "Over 3 runs, with the threshold from other data sets and models" in stopping.finding(table)
    assert "cannot be distinguished from" in stopping.finding(table)


def test_the_threshold_does_not_see_the_run_it_is_tested_on():
    """One run whose outliers behave otherwise: the threshold of the others must miss it."""
    tables = grid(run("mnist", 0, 5), run("mnist", 1, 9), run("cifar10", 0, 30, signal=2))
    evaluation = stopping.evaluate(*tables)
    other = evaluation[(evaluation["dataset"] == "cifar10") & (evaluation["rule"] == "outliers")]
    assert other["epoch"].tolist() == [2, 2]
    assert other["error"].tolist() == pytest.approx([np.log2(15)] * 2)
    assert other["accuracy_cost"].tolist() == pytest.approx([2.8] * 2)


def test_a_threshold_that_would_suit_the_run_itself_is_not_taken():
    metrics, counts = run("cifar10", 0, 30)
    counts["outliers_distance"] = np.select([EPOCHS >= 30, EPOCHS >= 2], [300, 150], 10)  # 30 % would be right
    evaluation = stopping.evaluate(*grid(run("mnist", 0, 5), (metrics, counts)))
    tested = evaluation[(evaluation["dataset"] == "cifar10") & (evaluation["rule"] == "outliers")]
    assert tested["epoch"].tolist() == [2, 2]


def test_the_last_epoch_is_the_last_and_the_training_loss_stops_where_it_falls_below():
    assert len(stopping.evaluate(*run("mnist", 0, 5))) == 0  # one run leaves nothing to fit on
    evaluation = stopping.evaluate(*grid(run("mnist", 0, 5), run("mnist", 1, 9)))
    last = evaluation[(evaluation["rule"] == "last epoch")]
    assert set(last["epoch"]) == {40}
    loss = evaluation[(evaluation["rule"] == "training loss") & (evaluation["seed"] == 0)].iloc[0]
    assert loss["epoch"] == np.ceil(9 / 2)  # exp(-9 / 2), reached twice as fast


def test_a_network_that_is_alone_is_not_tested_on_itself():
    evaluation = stopping.evaluate(*grid(run("mnist", 0, 5), run("mnist", 1, 9)))
    assert set(evaluation["left_out"]) == {"run"}
    assert stopping.finding(stopping.summary(evaluation, {})).startswith(
        "Over 2 runs, with the threshold from other runs"
    )


def test_without_runs_that_passed_their_minimum_it_says_so():
    evaluation = stopping.evaluate(*grid(run("mnist", 0, 40), run("mnist", 1, 35)))  # 40 < 1.2 * 35
    assert len(evaluation) == 0
    assert stopping.finding(stopping.summary(evaluation, {})).startswith("Not evaluated")


def test_rules_stop_at_ends_of_epochs():
    """Checkpoints inside epochs, at which all samples are outliers and the loss is lowest, change nothing."""
    tables = grid(run("mnist", 0, 5), run("mnist", 1, 9), run("cifar10", 2, 20))
    metrics, counts = (table[table["epoch"] == 1].assign(step=1, epoch=1 / STEPS) for table in tables)
    inside = metrics.assign(validation_loss=-1.0, train_loss=-9.0), counts.assign(outliers_distance=1000)
    more = [pd.concat([table, part]) for table, part in zip(tables, inside, strict=True)]
    pd.testing.assert_frame_equal(stopping.evaluate(*more), stopping.evaluate(*tables))


def test_in_a_training_loop():
    stop = fishertail.OutlierStop(share=0.1)
    norms = np.random.default_rng(0).uniform(0.9, 1.1, 1000)
    assert stop(norms) is False
    norms[:100] = 50
    assert stop(norms) is True
    with pytest.raises(ValueError, match="share: a number above 0, at most 1 expected, found 0"):
        fishertail.OutlierStop(share=0)
