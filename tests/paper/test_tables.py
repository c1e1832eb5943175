"""Tables over runs: what holds at each run's lowest validation loss, and the machine that computed it."""

import pandas as pd
import pytest

from fishertail.paper import exhibits
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN

RUNS = [
    {"dataset": "digits", "model": "fc", "batch_size": b, "seed": s, "figure_layer": "fc4"}
    for b in (16, 256)
    for s in (0, 1)
]
STEPS = 4  # of an epoch
METRICS = ["epoch", "validation_loss", "validation_accuracy"]
SPECTRUM = ["epoch", "layer", "rank", "eigenvalue", "converged"]
STOPPED = "stopped early: extend epochs"


def frame(rows, columns):
    """The same rows for each run, with its columns in front, and the step."""
    parts = [pd.DataFrame([[run[key] for key in RUN] + row for row in rows], columns=[*RUN, *columns]) for run in RUNS]
    table = pd.concat(parts, ignore_index=True)
    table.insert(len(RUN), "step", (STEPS * table["epoch"]).astype(int))
    return table.astype({"epoch": float})


def made(name, **tables):
    results = Results(RUNS, tables, {"measurements.outliers.reading": "distance"})
    return exhibits.tables()[name].make(results)


@pytest.fixture
def tables():
    return {
        "metrics": frame([[0, 2.0, 0.1], [1, 0.5, 0.9], [2, 0.7, 0.8]], METRICS),
        "spectrum": frame([[0, "fc4", 1, 9.0, True], [1, "fc4", 1, 3.0, False], [1, "fc1", 1, 8.0, False]], SPECTRUM),
        "outliers": frame(
            [[e, layer, n] for e, n in ((0, 5), (1, 6), (2, 7)) for layer in ("fc4", "network")],
            ["epoch", "layer", "outliers_distance"],
        ),
    }


def test_runs_say_what_holds_at_the_lowest_loss_and_count_what_did_not_converge(tables):
    runs = made("run_table", **tables)["runs"]
    assert len(runs) == 4
    assert runs["epochs"].tolist() == [2] * 4
    assert runs["epoch_of_minimum"].tolist() == [1] * 4
    assert runs["minimum"].tolist() == ["passed"] * 4
    assert runs["validation_accuracy"].tolist() == [0.9] * 4
    assert runs["lambda_1"].tolist() == [3.0] * 4
    assert runs["outliers"].tolist() == [6] * 4
    assert runs["not_converged"].tolist() == [2] * 4
    exhibits.tables()["run_table"].tables[0].check(runs, "runs")


def test_a_run_without_spectra_does_not_upset_the_count(tables):
    tables["spectrum"] = tables["spectrum"][tables["spectrum"]["seed"] == 0]
    runs = made("run_table", **tables)["runs"]
    assert runs["not_converged"].tolist() == [2, 0, 2, 0]
    assert runs["lambda_1"].isna().tolist() == [False, True, False, True]


def test_a_run_that_was_not_trained_long_enough_is_named(tables):
    metrics = tables["metrics"]
    metrics.loc[(metrics["seed"] == 1) & (metrics["epoch"] == 2), "validation_loss"] = 0.4
    runs = made("run_table", **tables)["runs"]
    assert runs["minimum"].tolist() == ["passed", STOPPED] * 2
    assert runs["validation_accuracy"].tolist() == [0.9, 0.8] * 2


def test_fig_6_in_full_has_every_layer_at_the_lowest_loss(tables):
    columns = ["epoch", "layer", "A", "B", "decrease_percent", "B_resolved", "decrease_resolved_percent", "left_out"]
    rows = [[e, layer, 4.0 + e, 1.0, 75.0, 2.0, 50.0, 3] for e in (1, 2) for layer in ("fc3", "fc4")]
    metrics = tables["metrics"]
    metrics.loc[(metrics["seed"] == 1) & (metrics["epoch"] == 2), "validation_loss"] = 0.4
    table = made("trimmed_eigenvalue_table", metrics=metrics, trimmed=frame(rows, columns))["trimmed_eigenvalues"]
    assert table["layer"].tolist() == ["fc3", "fc4"] * 4
    assert table["A"].tolist() == [5, 5, 6, 6] * 2
    assert table["minimum"].tolist() == ["passed", "passed", STOPPED, STOPPED] * 2
    exhibits.tables()["trimmed_eigenvalue_table"].tables[0].check(table, "trimmed_eigenvalues")


def test_table_1_lists_every_machine_that_did_the_work():
    records = [{"machine": {"cpu": cpu, "cores": 4}, "versions": {"torch": "2"}} for cpu in ("x", "y", "x")]
    table = exhibits.tables()["machine_table"].make(Results(RUNS, {}, {}), records)["table1_machine"]
    assert table.set_index("item")["value"].to_dict() == {"CPU": "x; y", "cores": "4", "torch": "2"}


def test_tables_have_names_of_their_own():
    names = [table.name for each in exhibits.tables().values() for table in each.tables]
    assert sorted(names) == sorted(set(names))
    assert {"runs", "trimmed_eigenvalues", "table1_machine", "claims", "claim_effects", "stopping"} <= set(names)
