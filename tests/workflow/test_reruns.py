"""A changed value or edit reruns what depends on it, and nothing else; a finished workflow has nothing to do."""

import pytest
import yaml

pytestmark = pytest.mark.workflow

FIGURES = {
    "fig1_validation_accuracy", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "fig6_trimmed_eigenvalues",
    "fig7_outliers", "table1_machine", "layers_over_training", "outliers_against_fit",
}  # fmt: skip
LAYERS = {"layers", "layers_over_training"}
TRIMMED = {
    "trimmed_eigenvalues", "trimmed_eigenvalues_at_landmarks", "trimmed_eigenvalue_table",
    "fig6_trimmed_eigenvalues", "claims", "page",
}  # fmt: skip
SPECTRA = TRIMMED | LAYERS | {
    "trimmed_both_ends", "ax_at_minimum",
    "fim_eigen", "fim_eigen_at_landmarks", "ax_histogram", "ax_statistics", "outlier_samples", "run_table",
    "machine_table", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "table1_machine",
}  # fmt: skip
EVERYTHING_BUT_DATA = SPECTRA | FIGURES | {
    "train", "run_metrics", "per_sample_gradients", "per_sample_gradients_at_landmarks", "mad_curve", "stopping",
    "fit",
}  # fmt: skip
OUTLIERS = LAYERS | {
    "mad_curve", "run_table", "fig7_outliers", "outlier_samples", "fit", "outliers_against_fit", "claims", "stopping",
    "page",
}  # fmt: skip
NEAR_ZERO = {"ax_statistics", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "claims", "page"}
HISTOGRAMS = {"ax_histogram", "fig2_3_ax_over_epochs", "fig4_5_ax_at_minimum", "page"}


def test_nothing_is_left_to_do_when_all_is_done(finished):
    assert finished.rules_to_run() == {}


def test_a_fresh_checkout_reruns_nothing(finished):
    """Its scripts are newer than the results, which Snakemake by itself takes for a change of code."""
    for script in (finished.path / "workflow/scripts").iterdir():
        script.touch()
    profiles = [yaml.safe_load(path.read_text()) for path in finished.path.glob("profiles/*/config.yaml")]
    (triggers,) = {tuple(profile["rerun-triggers"]) for profile in profiles}
    assert finished.rules_to_run().keys() >= {"train", "fim_eigen"}
    assert finished.rules_to_run("--rerun-triggers", *triggers) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"machine": {"device": "cpu", "memory_budget": 1}}, set()),
        ({"outliers": {"threshold": 5}}, OUTLIERS),
        ({"ax_statistics": {"near_zero": 0.2}}, LAYERS | NEAR_ZERO),
        ({"trimmed_eigenvalues": {"fraction": 0.2}}, TRIMMED | LAYERS | {"trimmed_both_ends"}),
        ({"ax_histogram": {"bins_per_decade": 2}}, HISTOGRAMS),
        ({"spectrum": {"tolerance": 1e-3}}, SPECTRA),
        ({"architectures": {"fc": {"learning_rate": 0.1, "hidden_widths": [16] * 4}}}, EVERYTHING_BUT_DATA),
    ],
    ids=["machine", "threshold", "near_zero", "fraction", "bins", "tolerance", "rate"],
)
def test_a_changed_value(finished, change, expected):
    own = change.keys() & {"machine", "architectures"}
    finished.write_grid(**(change if own else {"measurements": change}))
    assert set(finished.rules_to_run()) == expected


def test_more_epochs_train_the_new_block_only(finished):
    finished.write_grid(epochs=6)
    rules = finished.rules_to_run()
    assert {rule: rules[rule] for rule in ("train", "per_sample_gradients", "fim_eigen")} == {
        "train": 1,
        "per_sample_gradients": 1,
        "fim_eigen": 1,
    }


def test_a_schedule_reruns_the_blocks_in_which_it_takes_other_checkpoints(finished):
    """The tiny grid has blocks of the epochs 0 to 2 and 3 to 4, of which '4 per octave' takes all."""
    finished.write_grid(measurements={"spectrum": {"checkpoints": ["steps", 0, 1, 2, 4]}})
    assert finished.rules_to_run()["fim_eigen"] == 1
    finished.write_grid(measurements={"spectrum": {"checkpoints": "all"}})
    assert finished.rules_to_run() == {"page": 1}  # which shows the configuration


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("results/drawing", "figsize=(3.5 * columns", "figsize=(3.6 * columns", FIGURES | {"page"}),
        ("paper/figures/fig7_outliers", "The number of training samples", "Number of the training samples", {"page"}),
        ("fisher/start", "START_EXTRA = 2", "START_EXTRA = 3", SPECTRA),
        ("training/sgd", "# activations of a batch should", "# the activations of a batch should", set()),
        ("measurements/outliers", "len(norms)}", "1 * len(norms)}", OUTLIERS - {"outlier_samples", "fit"}),
        ("data/digits", "random_state=0", "random_state=1", {"prepare_dataset"} | EVERYTHING_BUT_DATA),
    ],
    ids=["drawing", "caption", "solver", "comment", "measurement", "data"],
)  # tests/execution/test_reruns.py has more edits, without Snakemake
def test_changed_code(finished, module, old, new, expected):
    path = finished.path / "src" / "fishertail" / f"{module}.py"
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    assert set(finished.rules_to_run()) == expected


def test_an_added_data_set_and_network_rerun_nothing_but_the_page_that_shows_the_configuration(finished):
    source = finished.path / "src" / "fishertail"
    for original, added, names in (
        ("data/digits.py", "data/more_digits.py", ("digits", "more_digits")),
        ("training/networks/fc.py", "training/networks/another.py", ("fc", "another")),
    ):
        text = (source / original).read_text()
        text = text.replace(f'name="{names[0]}"', f'name="{names[1]}"').replace(f'{{"{names[0]}":', f'{{"{names[1]}":')
        (source / added).write_text(text.replace(f'Network("{names[0]}"', f'Network("{names[1]}"'))
    finished.write_grid(models=["fc", "another"], only=["digits-fc/*"])
    assert finished.rules_to_run() == {"page": 1}
