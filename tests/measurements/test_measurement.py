"""What a measurement declares, and what it is given."""

from dataclasses import replace

import pandas as pd
import pytest

from fishertail.grid import config
from fishertail.measurements import measurement
from fishertail.measurements.measurement import Checkpoint, measurements, options_given

NAMES = ["norms", "outliers", "spectrum", "ax_histogram", "ax_statistics", "outlier_samples", "trimmed_eigenvalues"]
NAMES += ["noise_scale", "alignment", "drift_to_diffusion", "fit", "layers"]
NAMES += ["true_fisher", "hessian", "eigenvalue_statistics", "data_sensitivity", "sample_scores", "samples"]
NAMES += ["eigenvalue_count", "trimmed_both_ends", "ax_at_minimum"]
RULES = {  # that a reader of the paper looks for
    "norms": "per_sample_gradients",
    "spectrum": "fim_eigen",
    "ax_histogram": "ax_histogram",
    "trimmed_eigenvalues": "trimmed_eigenvalues",
    "outliers": "mad_curve",
}


def test_every_measurement_stands_after_those_that_it_needs():
    found = list(measurements())
    assert sorted(found) == sorted(NAMES)
    for name, each in measurements().items():
        assert all(found.index(need) < found.index(name) for need in each.needs)


def test_rules_keep_their_names():
    assert {name: measurements()[name].rule for name in RULES} == RULES


def test_every_table_is_made_once_and_says_what_its_columns_mean():
    made = [(table, each.scope) for each in measurements().values() for table in each.tables]
    assert len({table.name for table, _ in made}) == len(made) == len(measurement.tables())
    for table, scope in made:
        assert table.meaning
        assert all(column.meaning for column in table.columns)
        assert scope == "run" or table.suffix == "safetensors" or table.names[:2] == ["step", "epoch"]
        assert set(table.keys) <= set(table.names)


def test_only_small_tables_are_kept_with_a_run():
    large = {table.name for table in measurement.tables().values() if not table.kept}
    assert large == {"norms", "projections", "eigenvectors", "mean_gradients", "sample_scores", "samples"}


def test_what_costs_gradients_says_at_which_checkpoints():
    sections = config.default().all_options
    for name, each in measurements().items():
        assert (each.scope == "gradients") == ("checkpoints" in type(sections[name]).model_fields) == (each.passes > 0)


def test_a_measurement_is_given_its_options_and_those_that_it_asks_for():
    sections = config.default().all_options
    assert options_given(measurements()["spectrum"], sections) == {
        "layers": "all",
        "eigenpairs": 1,
        "tolerance": 1e-4,
    }
    found = options_given(measurements()["outlier_samples"], sections)
    assert found == {"count": 12, "outliers": {"threshold": 10, "reading": "distance"}}


def test_a_need_that_there_is_not_is_named(monkeypatch):
    known = dict(measurements())
    known["norms"] = replace(known["norms"], needs=("nothing",))
    monkeypatch.setattr(measurement.registry, "registered", lambda *arguments: known)
    with pytest.raises(TypeError, match="measurement norms: needs nothing, expected among"):
        measurement.measurements()


def test_only_a_run_takes_what_is_not_of_gradients(monkeypatch):
    known = dict(measurements())
    monkeypatch.setattr(measurement.registry, "registered", lambda *arguments: known)
    known["fit"] = replace(known["fit"], needs=("norms", "outliers"))
    with pytest.raises(TypeError, match="measurement fit: only one of scope run may need outliers"):
        measurement.measurements()


def test_only_a_run_has_a_lowest_validation_loss(monkeypatch):
    known = dict(measurements())
    monkeypatch.setattr(measurement.registry, "registered", lambda *arguments: known)
    known["fit"] = replace(known["fit"], at_minimum=True)
    with pytest.raises(TypeError, match="measurement fit: at_minimum with scope run expected, found scope tables"):
        measurement.measurements()


def test_a_measurement_is_found_by_its_module():
    assert measurement.module(measurements()["trimmed_eigenvalues"]) == "measurements.trimmed_eigenvalues"


def test_the_layers_of_a_checkpoint_are_the_columns_that_are_not_declared():
    norms = pd.DataFrame(columns=["sample", "label", "loss", "correct", "fc1", "block.conv", "network"])
    at = Checkpoint(3, {"norms": norms, "outliers": norms})
    assert at.layers("norms") == ["fc1", "block.conv", "network"]
    with pytest.raises(ValueError, match="outliers: has no column for each layer"):
        at.layers("outliers")
