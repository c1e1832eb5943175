"""What answers the extensions, on curves whose answer is known."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config

from tests.workflow.project import ROOT

SPEC = importlib.util.spec_from_file_location("extensions", ROOT / "docs/reproduction/extensions.py")
extensions = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(extensions)

LEAVES = st.integers() | st.lists(st.integers(), max_size=2)
MAPPINGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, min_size=1, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), LEAVES | inner, min_size=1, max_size=3),
    max_leaves=6,
)
SAMPLES = 60_000
KEYS = ["dataset", "model", "batch_size", "seed"]
GROWTH, BY_RATIO = 0.3, 0.5  # lambda_1 = ratio^0.5 (rate x steps)^0.3


@given(below=MAPPINGS, above=MAPPINGS)
def test_an_overlay_is_laid_over_as_snakemake_does(below, above):
    try:
        update_config(expected := {**_copy(below)}, _copy(above))
    except (AttributeError, TypeError):  # it cannot lay a mapping over a number
        return
    assert extensions.laid_over(below, above) == expected


def _copy(mapping):
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in mapping.items()}


def curve(model, rate, batch_size, steps, seed=0, factor=1.0):
    """lambda_1 of a run that is a function of its ratio and of its time, rate x steps, alone."""
    per_epoch = -(-SAMPLES // batch_size)
    taken = np.unique(np.concatenate([[0, 1], np.geomspace(1, steps, 20).round()])).astype(int)
    values = factor * (rate / batch_size) ** BY_RATIO * (rate * np.maximum(taken, 0.1)) ** GROWTH
    table = pd.DataFrame({"step": taken, "epoch": taken / per_epoch, "eigenvalue": values})
    return table.assign(dataset="mnist", model=model, batch_size=batch_size, seed=seed)


def test_log_ratios_of_power_laws_are_exact():
    one, other = curve("a", 0.0125, 16, 15_000), curve("b", 0.0125, 64, 9_000)
    points = extensions.points_of_all([one, other], "step")
    logs = extensions.log_ratio(one, other, "step", points)
    assert (points[0], points[-1]) == (pytest.approx(1), pytest.approx(9_000))
    np.testing.assert_allclose(logs, np.log((1 / 4) ** BY_RATIO), rtol=1e-9)
    points = extensions.points_of_all([one, other], "epoch")
    logs = extensions.log_ratio(one, other, "epoch", points)  # at equal epochs 64 has taken a quarter of the steps
    np.testing.assert_allclose(logs, np.log((1 / 4) ** BY_RATIO * (3750 / 938) ** -GROWTH), rtol=1e-9)


def test_the_pairs_of_the_extension():
    config = extensions.configuration("rate_over_batch_size")
    networks = {(run.model, run.batch_size) for run in config.runs}
    trained = [extensions.Trained(*each, config.architecture(each[0]).learning_rate) for each in networks]
    found = {(kind, a.rate, a.batch_size, b.rate, b.batch_size) for kind, a, b in extensions.pairs(trained)}
    assert found == {
        ("ratio", 0.0125, 16, 0.05, 64),
        ("ratio", 0.0125, 16, 0.2, 256),
        ("ratio", 0.05, 64, 0.2, 256),
        ("ratio", 0.003125, 16, 0.0125, 64),
        ("ratio", 0.003125, 16, 0.05, 256),
        ("ratio", 0.0125, 64, 0.05, 256),
        ("rate", 0.0125, 16, 0.0125, 64),
        ("rate", 0.05, 64, 0.05, 256),
    }


def test_the_runs_of_the_extension_take_equally_many_steps():
    config = extensions.configuration("rate_over_batch_size")
    steps = [config.epochs_of(run) * -(-SAMPLES // run.batch_size) for run in config.runs]
    assert max(steps) / min(steps) < 1.003


def test_where_time_and_ratio_are_all_that_counts_the_answer_says_so():
    rates = {"low": 0.0125, "high": 0.05}
    parts = [("low", 16, 1.0), ("low", 64, 1.0), ("high", 64, 1.0)]
    curves = pd.concat([curve(m, rates[m], size, 15_000, seed) for m, size, _ in parts for seed in (0, 1)])
    found = extensions.pairs_compared(curves, rates).set_index(["equal", "clock", "pair"])
    steps = 3750 / 938  # at equal epochs
    expected = {
        ("ratio", "epoch", "0.0125 at 16, 0.05 at 64"): (4 / steps) ** GROWTH,
        ("ratio", "step", "0.0125 at 16, 0.05 at 64"): 4**GROWTH,
        ("rate", "step", "0.0125 at 16, 0.0125 at 64"): 4**-BY_RATIO,
        ("rate", "epoch", "0.0125 at 16, 0.0125 at 64"): 4**-BY_RATIO * steps**-GROWTH,
    }
    for key, factor in expected.items():
        row = found.loc[key]
        assert row["geometric_mean"] == pytest.approx(factor)
        for column in ("typical_factor", "largest_factor"):
            assert row[column] == pytest.approx(max(factor, 1 / factor))
        assert row["seeds"] == 2
    assert len(found) == 8  # and one of all pairs of each kind and clock


def test_rates_are_compared_at_equal_rate_times_steps():
    """lambda_1 is a function of that time and of the ratio, so that what differs is the ratio's part."""
    rates = {"slow": 0.001, "fast": 0.004, "faster": 0.008}
    curves = pd.concat([curve(model, rate, 256, 2000, seed) for model, rate in rates.items() for seed in (0, 1)])
    curves = curves[(curves["model"] != "slow") | (curves["seed"] == 0)]
    curves[extensions.TIME] = curves["model"].map(rates) * curves["step"]
    found = extensions.beside(curves, "slow", extensions.TIME).set_index("model")
    assert found["seed"].to_dict() == {"fast": 0, "faster": 0}
    assert found["geometric_mean"].to_dict() == {
        "fast": pytest.approx(4**BY_RATIO, rel=1e-9), "faster": pytest.approx(8**BY_RATIO, rel=1e-9)
    }  # fmt: skip
    assert found["largest_factor"].to_dict() == pytest.approx(found["geometric_mean"].to_dict())
    assert found["compared_until"].to_list() == [pytest.approx(0.001 * 2000)] * 2


def runs_in_float32(**changed):
    """Three runs in float32 and one in bfloat16, made up around what it has."""
    own = {"lambda_1": 30.0, "largest": 40.0, "near_zero_share": 0.1, "decrease": 0.7} | changed
    rows = [
        {"lambda_1": 30 * f, "largest": 40 * f, "near_zero_share": 0.1 * f, "decrease": 1 - 0.3 * f}
        for f in (0.5, 1.0, 2.0)
    ]
    made_up = {"precision": ["float32"] * 3 + ["bfloat16"], "minimum_status": "passed", "samples": 50_000}
    return pd.DataFrame([*rows, own]).assign(**made_up)


def test_one_more_seed_is_expected_where_the_others_say():
    """Of 30 x (1/2, 1, 2): log 30 +- t(0.975, 2) log 2 sqrt(4/3), with t(0.975, 2) = 4.3027 of the tables."""
    found = extensions.with_expected(runs_in_float32())
    factor = np.exp(4.3027 * np.log(2) * np.sqrt(4 / 3))
    assert found["lambda_1_low"].to_list() == pytest.approx([30 / factor] * 4, rel=1e-4)
    assert found["lambda_1_high"].to_list() == pytest.approx([30 * factor] * 4, rel=1e-4)
    assert found["as_expected"].isna().to_list() == [True] * 3 + [False]
    assert found["as_expected"].iloc[3]


@pytest.mark.parametrize("column", ["lambda_1", "largest", "near_zero_share", "decrease"])
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_run_in_bfloat16_must_be_as_expected_in_all(column, factor):
    value = runs_in_float32()[column].iloc[3] * factor
    if column in ("near_zero_share", "decrease"):
        value = min(value, 1 - 1e-4)
    assert not extensions.with_expected(runs_in_float32(**{column: value}))["as_expected"].iloc[3]


def test_a_share_that_no_sample_has_counts_as_half_a_sample():
    """Without it the limits of all seeds would be of logarithms of 0."""
    runs = runs_in_float32()
    runs.loc[0, "near_zero_share"] = 0.0
    found = extensions.with_expected(runs)
    assert np.isfinite(found[["near_zero_share_low", "near_zero_share_high"]]).all(axis=None)
    assert found["as_expected"].iloc[3]


@pytest.mark.parametrize("stopped", [0, 3])
def test_a_run_that_stopped_early_says_nothing(stopped):
    runs = runs_in_float32()
    runs.loc[stopped, "minimum_status"] = "stopped early"
    assert extensions.with_expected(runs)["as_expected"].isna().all()


@pytest.mark.parametrize("seeds", [[], [0], [0, 1]])
def test_fewer_than_three_seeds_say_nothing_of_others(seeds):
    found = extensions.with_expected(runs_in_float32().iloc[[*seeds, 3]])
    assert found["as_expected"].isna().all()
    assert found["lambda_1_low"].isna().all()


def test_each_run_is_read_at_its_lowest_validation_loss():
    """Made-up numbers that say where they stand: a thousand times the step, and parts of it."""
    config = extensions.configuration("regression")
    models = {"fc": 1, "fc_squared_error": 2}  # with the epoch of their lowest loss
    runs = [dict(zip(KEYS, ("mnist", model, 16, 0), strict=True)) for model in models]
    steps = pd.DataFrame({"step": [0, 10, 20], "epoch": [0.0, 1.0, 2.0]})

    def table(layer="fc4", **columns):
        parts = [steps.assign(layer=layer, **columns, **run) for run in runs]
        return pd.concat(parts, ignore_index=True)

    metrics = table(train_accuracy=0.5, validation_accuracy=[0.1, 0.2, 0.3])
    metrics["validation_loss"] = (metrics["epoch"] - metrics["model"].map(models)).abs()
    tables = {
        "metrics": metrics.drop(columns="layer"),
        "spectrum": table(rank=1, eigenvalue=[0.0, 10_000.0, 20_000.0]),
        "ax_statistics": table(samples=60_000, near_zero_share=[0.0, 0.1, 0.2], largest=1.0),
        "trimmed": table(
            A=[0.0, 10.0, 20.0],
            B=1.0,
            B_resolved=2.0,
            decrease_percent=[40.0, 90.0, 91.0],
            decrease_resolved_percent=[4.0, 80.0, 81.0],
        ),
        "outliers": table("network", outliers_distance=[0, 6_000, 12_000], samples=60_000),
    }
    results = extensions.Results([run | {"figure_layer": "fc4"} for run in runs], tables, {})
    found = extensions.at_minimum(results, config, {"mnist": 10}).set_index("model")
    for model, epoch in models.items():
        row = found.loc[model]
        assert (row["minimum_epoch"], row["classes"], row["lambda_1"], row["A"]) == (epoch, 10, 1e4 * epoch, 10 * epoch)
        assert (row["decrease_percent"], row["decrease_resolved_percent"]) == (89 + epoch, 79 + epoch)
        assert (row["decrease_percent_before"], row["decrease_resolved_percent_before"]) == (40, 4)
        assert row["outlier_share"] == pytest.approx(0.1 * epoch)
        assert row["near_zero_share"] == pytest.approx(0.1 * epoch)
        assert row["validation_accuracy"] == pytest.approx(0.1 + 0.1 * epoch)
    assert found["loss"].to_dict() == {"fc": "cross_entropy", "fc_squared_error": "squared_error"}


def test_the_typical_and_the_largest_factor_do_not_cancel():
    found = extensions._factors(np.log([2, 0.5, 4, 0.25]))
    assert found["geometric_mean"] == pytest.approx(1)
    assert found["typical_factor"] == pytest.approx(2**1.5)
    assert found["largest_factor"] == pytest.approx(4)


def test_seeds_count_as_their_geometric_mean():
    runs = [(16, 0, 1), (16, 1, 1), (64, 0, 2), (64, 1, 8), (64, 2, 100)]  # the last seed is not in both
    curves = pd.concat([curve("a", 0.1, batch_size, 1000, seed, factor) for batch_size, seed, factor in runs])
    found = extensions.pairs_compared(curves, {"a": 0.1}).query("clock == 'step' and seeds == 2")
    assert found["geometric_mean"].item() == pytest.approx(4 * 4**-BY_RATIO)


def test_seeds_of_different_lengths_are_compared_at_the_same_points():
    """The ratio is the step itself, so that it is known where the two seeds are compared."""
    runs = [(size, seed, steps) for size in (16, 64) for seed, steps in ((0, 1000), (1, 100))]
    curves = pd.concat([curve("a", 0.1, size, steps, seed) for size, seed, steps in runs])
    curves["eigenvalue"] *= np.where(curves["batch_size"] == 64, 4**BY_RATIO * curves["step"], 1)
    found = extensions.pairs_compared(curves, {"a": 0.1}).query("clock == 'step' and seeds == 2")
    assert found["geometric_mean"].item() == pytest.approx(10)
    assert found["largest_factor"].item() == pytest.approx(100)
    assert found["largest_at"].item() == pytest.approx(100)
