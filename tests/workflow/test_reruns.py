"""A changed value reruns what depends on it, and nothing else; a finished workflow has nothing to do."""

import pytest

pytestmark = pytest.mark.workflow

EVERYTHING_BUT_DATA = {
    "train", "run_metrics", "per_sample_gradients", "fim_eigen", "fim_eigen_at_minimum", "ax_histogram",
    "ax_histogram_at_minimum", "mad_curve", "trimmed_eigenvalues", "trimmed_eigenvalue_table", "run_table",
    "machine_table", "fig1_validation_accuracy", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum",
    "fig6_trimmed_eigenvalues", "fig7_outliers", "table1_machine", "ax_statistics", "outlier_samples", "claims",
    "stopping", "page",
}  # fmt: skip
SPECTRA = {
    "fim_eigen", "fim_eigen_at_minimum", "ax_histogram", "ax_histogram_at_minimum", "trimmed_eigenvalues",
    "trimmed_eigenvalue_table", "run_table", "machine_table", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum",
    "fig6_trimmed_eigenvalues", "table1_machine", "ax_statistics", "outlier_samples", "claims", "page",
}  # fmt: skip


def test_nothing_is_left_to_do_when_all_is_done(finished):
    assert finished.rules_to_run() == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"machine": {"device": "cpu", "memory_budget": 1}}, set()),
        (
            {"analysis": {"outlier_threshold": 5}},
            {"mad_curve", "run_table", "fig7_outliers", "outlier_samples", "claims", "stopping", "page"},
        ),
        ({"analysis": {"near_zero": 0.2}}, {"ax_statistics", "claims", "page"}),
        (
            {"analysis": {"trimmed_fraction": 0.2}},
            {"trimmed_eigenvalues", "trimmed_eigenvalue_table", "fig6_trimmed_eigenvalues", "claims", "page"},
        ),
        (
            {"analysis": {"histogram": {"bins_per_decade": 2}}},
            {"ax_histogram", "ax_histogram_at_minimum", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "page"},
        ),
        ({"analysis": {"tolerance": 1e-3}}, SPECTRA),
        (
            {"architectures": {"fc": {"learning_rate": 0.1, "hidden_widths": [16, 16, 16, 16]}}},
            EVERYTHING_BUT_DATA,
        ),
    ],
    ids=["machine", "threshold", "near_zero", "fraction", "bins", "tolerance", "rate"],
)  # fmt: skip
def test_a_changed_value(finished, change, expected):
    finished.write_grid(**change)
    assert set(finished.rules_to_run()) == expected


def test_more_epochs_train_the_new_block_only(finished):
    finished.write_grid(epochs=6)
    rules = finished.rules_to_run()
    assert {rule: rules[rule] for rule in ("train", "per_sample_gradients", "fim_eigen")} == {
        "train": 1,
        "per_sample_gradients": 1,
        "fim_eigen": 1,
    }


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("figures", "figsize=(3.5 * columns", "figsize=(3.6 * columns", {
            "fig1_validation_accuracy", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "fig6_trimmed_eigenvalues",
            "fig7_outliers", "table1_machine", "page",
        }),
        ("fisher/start", "START_EXTRA = 2", "START_EXTRA = 3", SPECTRA),
        ("fisher/start", "# of eigenvectors of the Gram", "# of the eigenvectors of the Gram", set()),
        ("training", "EVALUATION_BATCH = 100", "EVALUATION_BATCH = 200", EVERYTHING_BUT_DATA),
        ("data/npz", "import numpy as np", "import numpy as np\nadded = 1", set()),
        ("data/digits", "random_state=0", "random_state=1", {"prepare_dataset"} | EVERYTHING_BUT_DATA),
        ("sources", '"mnist": 60_000', '"more": 1, "mnist": 60_000', set()),
    ],
    ids=["figures", "solver", "comment", "training", "other_data", "data", "built_in_data"],
)  # fmt: skip
def test_changed_code(finished, module, old, new, expected):
    path = finished.path / "src" / "fishertail" / f"{module}.py"
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    assert set(finished.rules_to_run()) == expected
