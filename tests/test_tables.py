"""Tables over runs: summary, Fig. 6 and Table 1 from small real files."""

import pandas as pd
import pytest

from fishertail import storage, tables

RUNS = [
    {"dataset": "digits", "model": "fc", "batch_size": b, "seed": s, "figure_layer": "fc4"}
    for b in (16, 256)
    for s in (0, 1)
]


def frame(rows, columns):
    parts = [
        pd.DataFrame([[run[key] for key in tables.RUN] + row for row in rows], columns=[*tables.RUN, *columns])
        for run in RUNS
    ]
    return pd.concat(parts, ignore_index=True)


def test_collect_puts_the_run_in_front_and_chooses_the_layer(tmp_path):
    paths = []
    for number in range(len(RUNS)):
        paths.append(tmp_path / f"{number}.csv")
        content = pd.DataFrame({"layer": ["fc3", "fc4", "network"], "value": [1, 2, number]})
        storage.write_table(content if number else content[:0], paths[-1], {})
    figure_layer = tables.collect(paths, RUNS, layer="figure")
    assert list(figure_layer) == [*tables.RUN, "layer", "value"]
    assert figure_layer["value"].tolist() == [2, 2, 2]
    assert tables.collect(paths, RUNS, layer="network")["value"].tolist() == [1, 2, 3]


def test_summary_says_what_holds_at_the_lowest_loss_and_counts_what_did_not_converge():
    metrics = frame([[0, 2.0, 0.1], [1, 0.5, 0.9], [2, 0.7, 0.9]], ["epoch", "validation_loss", "validation_accuracy"])
    spectrum = frame(
        [[0, "fc4", 1, 9.0, True], [1, "fc4", 1, 3.0, False]], ["epoch", "layer", "rank", "eigenvalue", "converged"]
    )
    at_minimum = spectrum[spectrum["epoch"] == 1]
    outliers = frame([[0, 5], [1, 6], [2, 7]], ["epoch", "outliers_distance"])
    summary = tables.run_summary(metrics, spectrum, at_minimum, outliers)
    assert len(summary) == 4
    assert summary["epoch_of_minimum"].tolist() == [1] * 4
    assert summary["minimum"].tolist() == ["reached"] * 4
    assert summary["lambda_1"].tolist() == [3.0] * 4
    assert summary["outliers"].tolist() == [6] * 4
    assert summary["not_converged"].tolist() == [1] * 4


def test_a_block_without_spectra_does_not_upset_the_count(tmp_path):
    rows = pd.DataFrame({"epoch": [0, 1, 2], "rank": 1, "eigenvalue": 3.0, "converged": [True, False, False]})
    for name, content in {"with.csv": rows, "without.csv": rows[:0]}.items():
        storage.write_table(content, tmp_path / name, {})
    runs = [run for run in RUNS for _ in range(2)]
    spectrum = tables.collect([tmp_path / "with.csv", tmp_path / "without.csv"] * len(RUNS), runs)
    metrics = frame([[0, 2.0, 0.1], [1, 0.5, 0.9], [2, 0.7, 0.9]], ["epoch", "validation_loss", "validation_accuracy"])
    outliers = frame([[1, 6]], ["epoch", "outliers_distance"])
    summary = tables.run_summary(metrics, spectrum, spectrum[spectrum["epoch"] == 1], outliers)
    assert summary["not_converged"].tolist() == [2] * 4


def test_a_run_that_was_not_trained_long_enough_is_told_so():
    columns = ["epoch", "validation_loss", "validation_accuracy"]
    metrics = frame([[0, 2.0, 0.1], [1, 1.0, 0.5], [2, 0.5, 0.9]], columns)
    metrics.loc[(metrics["seed"] == 0) & (metrics["epoch"] == 2), "validation_loss"] = 1.5
    found = tables.minima(metrics)
    assert found["minimum"].tolist() == ["reached", "not reached: extend epochs"] * 2
    assert found["validation_accuracy"].tolist() == [0.5, 0.9] * 2


def test_figure_6_counts_the_runs_that_passed_their_minimum():
    columns = ["layer", "A", "B", "decrease_percent", "B_anew", "decrease_anew_percent", "minimum"]
    trimmed = frame([["fc4", 4.0, 1.0, 75.0, 2.0, 50.0, "reached"]], columns)
    trimmed.loc[0, "minimum"] = "not reached: extend epochs"
    assert tables.figure_6(trimmed, {"fc": "fc4"})["minimum_passed"].tolist() == ["1 of 2", "2 of 2"]


def test_figure_6_is_the_mean_over_the_seeds_in_the_figure_layer():
    columns = ["layer", "A", "B", "decrease_percent", "B_anew", "decrease_anew_percent", "minimum"]
    rows = [["fc3", 1.0, 1.0, 0.0, 1.0, 0.0, "reached"], ["fc4", 4.0, 1.0, 75.0, 2.0, 50.0, "reached"]]
    trimmed = frame(rows, columns)
    trimmed.loc[trimmed["seed"] == 1, "A"] *= 2
    table = tables.figure_6(trimmed, {"fc": "fc4"})
    assert table["batch_size"].tolist() == [16, 256]
    assert table["A"].tolist() == pytest.approx([6, 6])
    assert table["minimum_passed"].tolist() == ["2 of 2"] * 2


def test_table_1_lists_every_machine_that_did_the_work(tmp_path):
    paths = []
    for number, cpu in enumerate(["x", "y", "x"]):
        paths.append(tmp_path / f"{number}.csv")
        record = {"machine": {"cpu": cpu, "cores": 4}, "versions": {"torch": "2"}}
        storage.write_table(pd.DataFrame({"a": [1]}), paths[-1], record)
    table = tables.machine_table(paths).set_index("item")["value"]
    assert table.to_dict() == {"CPU": "x; y", "cores": "4", "torch": "2"}
