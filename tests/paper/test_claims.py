"""Verdicts on made-up results whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fishertail.paper.claims import judging
from fishertail.paper.claims.claim import Claim, Quantity, claims, passed
from fishertail.paper.claims.claim2 import CHANGE, rise_and_fall
from fishertail.paper.claims.claim5 import take_off
from fishertail.paper.claims.judging import FAILS, HOLDS, UNDECIDED, judge
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN

SEEDS, EPOCHS, MINIMUM = range(3), range(9), 4
STEPS = 10  # of an epoch
TABLES = ("metrics", "spectrum", "ax_statistics", "trimmed", "outliers")
SETTINGS = {
    "measurements.ax_statistics.near_zero": 0.1,
    "measurements.trimmed_eigenvalues.fraction": 0.1,
    "measurements.outliers.reading": "distance",
}


def results(*, seeds=SEEDS, rising=False, settings=SETTINGS, dataset="mnist", **changes) -> Results:
    """Two batch sizes of one network, in which all claims hold; `changes` replace columns by functions of the rows."""
    rows = []
    for batch_size in (16, 256):
        for seed in seeds:
            for epoch in EPOCHS:
                loss = -epoch if rising else abs(epoch - MINIMUM)
                row = {"dataset": dataset, "model": "fc", "batch_size": batch_size, "seed": seed}
                row |= {"step": STEPS * epoch, "epoch": float(epoch)}
                row |= {"validation_loss": loss + 0.01 * seed, "validation_accuracy": 0.9, "layer": "fc4", "rank": 1}
                row |= {"eigenvalue": (1 + min(epoch, 8 - epoch)) * (2 if batch_size == 256 else 1) * (1 + 0.01 * seed)}
                row |= {"largest": (200 if batch_size == 256 else 100) + seed, "samples": 1000}
                row |= {"near_zero_share": (0.7 if batch_size == 256 else 0.9) + 0.001 * seed}
                row |= {"decrease_percent": 99 + 0.1 * seed, "decrease_resolved_percent": 90 + 0.1 * seed}
                row |= {"outliers_distance": 100 if epoch >= MINIMUM - 1 else 0}
                rows.append(row)
    table = pd.DataFrame(rows)
    for column, change in changes.items():
        table[column] = change(table)
    runs = [{**dict(zip(RUN, key, strict=True)), "figure_layer": "fc4"} for key in table.groupby(RUN).groups]
    tables = dict.fromkeys(TABLES, table) | {"outliers": table.assign(layer="network")}
    return Results(runs, tables, settings)


def with_tables(found: Results, **tables: pd.DataFrame) -> Results:
    return replace(found, tables={**found.tables, **tables})


def verdicts(found: Results) -> list[str]:
    return judging.verdicts_table(judging.effects_table(found))["verdict"].tolist()


def test_where_all_claims_are_true_all_hold():
    assert verdicts(results()) == [HOLDS] * 5


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        (1, {"near_zero_share": lambda t: 0.05 + 0.001 * t["seed"]}),
        (1, {"largest": lambda t: 2 + 0.1 * t["seed"]}),
        (2, {"eigenvalue": lambda t: (1 + t["epoch"]) * (1 + t["batch_size"])}),  # does not shrink
        (2, {"eigenvalue": lambda t: (9 - t["epoch"]) * (1 + t["batch_size"])}),  # does not grow
        (3, {"eigenvalue": lambda t: (1 + np.minimum(t["epoch"], 8 - t["epoch"])) / t["batch_size"]}),
        (3, {"near_zero_share": lambda t: 0.5 + t["batch_size"] / 1000}),
        (4, {"decrease_percent": lambda t: 40 + t["seed"]}),
        (5, {"outliers_distance": lambda t: 1.0 * (t["epoch"] >= 1)}),  # a quarter of the epochs of the minimum
    ],
)
def test_a_claim_that_is_false_fails_alone(claim, changes):
    assert verdicts(results(**changes)) == [FAILS if number == claim else HOLDS for number in range(1, 6)]


def test_a_single_seed_decides_nothing():
    found = judging.effects_table(results(seeds=[0]))
    assert set(found["verdict"]) == {UNDECIDED}
    assert set(found["note"]) == {"one seed"}
    assert found["effect"].notna().all()


def test_runs_that_ended_too_early_decide_nothing():
    found = judging.effects_table(results(rising=True))
    assert set(found["verdict"]) == {UNDECIDED}
    assert set(found["note"]) == {
        "no seed has passed its lowest validation loss",
        "no seed has passed its lowest validation loss at both batch sizes",
    }
    assert "Nothing measured" in judging.verdicts_table(found)["finding"].iloc[0]


def test_one_network_that_fails_is_named():
    good = results()
    bad = results(dataset="cifar10", decrease_percent=lambda t: 10 + t["seed"])
    tables = {name: pd.concat([good[name], bad[name]], ignore_index=True) for name in TABLES}
    both = Results([*good.runs, *bad.runs], tables, SETTINGS)
    fourth = judging.verdicts_table(judging.effects_table(both)).set_index("claim").loc[4]
    assert (fourth["verdict"], fourth["holds"], fourth["fails"]) == (FAILS, 2, 2)
    assert "fails: cifar10-fc/16, cifar10-fc/256" in fourth["finding"]


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=8))
def test_the_interval_is_students(values):
    judged = judge(Quantity("x", "x", lower=0), np.array(values))
    mean, error = np.mean(values), stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    np.testing.assert_allclose([judged["low"], judged["high"]], [low, high], rtol=1e-9, atol=1e-9)


def test_ratios_are_judged_by_their_logarithms():
    judged = judge(Quantity("x", "x", lower=1, scale="ratio"), np.array([2.0, 8.0]))
    assert judged["effect"] == pytest.approx(4)
    assert judged["low"] * judged["high"] == pytest.approx(16)


def test_a_ratio_of_nothing_is_no_verdict():
    assert judge(Quantity("x", "x", lower=1, scale="ratio"), np.array([0.0, 2.0]))["verdict"] == UNDECIDED


@pytest.mark.parametrize("values", [[0.7, 1.0, 0.9999], [0.0, 0.001], [0.5, 0.51]])
def test_the_interval_of_a_share_is_of_shares(values):
    judged = judge(Quantity("x", "x", lower=0.1, scale="share"), np.array(values))
    assert 0 <= judged["low"] <= judged["effect"] <= judged["high"] <= 1


def test_the_interval_of_a_decrease_ends_at_all_of_it():
    judged = judge(Quantity("x", "x", lower=60, scale="decrease"), np.array([99.9, 44.0]))
    assert judged["low"] < judged["effect"] < judged["high"] <= 100
    assert judged["effect"] == pytest.approx(100 * (1 - np.sqrt(0.001 * 0.56)))


def test_growth_and_shrinking_are_of_medians_of_three():
    assert rise_and_fall(np.array([1.0, 1, 9, 1, 1])) == (1, 1)  # a single peak is noise
    assert rise_and_fall(np.array([1.0, 3, 4, 5, 2])) == (4, 2)
    assert np.isnan(rise_and_fall(np.array([1.0, 2]))).all()


def test_noise_from_epoch_to_epoch_is_no_growth():
    """Of a constant lambda_1, at 25 epochs of three seeds. A bound of 1.1 would not tell it from growth."""
    random = np.random.default_rng(0)

    def taken_for_growth(bound: float) -> float:
        quantity = Quantity("x", "x", lower=bound, scale="ratio")
        noise = np.exp(random.normal(0, 0.3, (500, 3, 25)))
        noise[:, :, 0] = 1
        judged = [judge(quantity, np.array([rise_and_fall(seed)[0] for seed in trial])) for trial in noise]
        return np.mean([found["verdict"] == HOLDS for found in judged])

    assert taken_for_growth(CHANGE) < 0.02
    assert taken_for_growth(1.1) > 0.3


@pytest.mark.parametrize("analysed", [[0, 4], [4, 6], [1, 2, 3, 8], [0, 1, 2, 3]])
def test_growth_is_not_measurable_without_the_first_and_the_last_epoch(analysed):
    found = results()
    spectrum = found["spectrum"][found["spectrum"]["epoch"].isin(analysed)]
    effects = judging.effects_table(with_tables(found, spectrum=spectrum))
    assert set(effects[effects["claim"] == 2]["note"]) == {"not measurable"}


def test_what_is_re_solved_has_no_vote():
    found = results(decrease_resolved_percent=lambda t: 20 + t["seed"])
    assert verdicts(found) == [HOLDS] * 5
    effects = judging.effects_table(found)
    assert set(effects[~effects["decides"]]["verdict"]) == {FAILS}


def test_take_off():
    epochs, minimum = np.arange(10), 4
    late = np.array([0, 0, 0, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9])
    assert take_off(epochs, late, minimum) == pytest.approx((0.5, 1, 1 / 0.75))  # what comes after epoch 8 is too late
    assert take_off(epochs, epochs / 100, minimum) == pytest.approx((0.08, 1, 1))  # a steady growth
    at_once = take_off(epochs, np.where(epochs > 0, 0.5, 0), minimum)
    assert at_once == pytest.approx((0.5, 0.25, 0))
    rise, ratio, lateness = take_off(epochs, 1 - epochs / 100, minimum)
    assert rise == 0
    assert np.isnan([ratio, lateness]).all()


@pytest.mark.parametrize(
    "counts",
    [
        lambda t: 100 - t["epoch"],  # a fall
        lambda t: 100 + 20 * t["epoch"],  # a steady growth
        lambda t: 5 * (t["epoch"] >= MINIMUM),  # of next to nothing
    ],
)
def test_what_is_no_take_off_fails_the_fifth_claim(counts):
    assert verdicts(results(outliers_distance=counts)) == [HOLDS] * 4 + [FAILS]


def test_sentences_name_the_settings():
    changed = {"measurements.ax_statistics.near_zero": 0.01, "measurements.trimmed_eigenvalues.fraction": 0.2}
    quantities = set(judging.effects_table(results(settings=SETTINGS | changed))["quantity"])
    assert {"share of the samples with |a_x| < 0.01", "largest |a_x| / 0.01"} <= quantities
    assert "decrease of lambda_1 without 20% of the samples (%)" in quantities


def test_one_batch_size_leaves_the_third_claim_open():
    found = results()
    small = with_tables(found, **{name: found[name][found[name]["batch_size"] == 16] for name in TABLES})
    assert verdicts(small) == [HOLDS, HOLDS, UNDECIDED, HOLDS, HOLDS]
    effects = judging.effects_table(small)
    assert set(effects[effects["claim"] == 3]["note"]) == {"one batch size"}


def test_runs_count_from_a_fifth_more_epochs_than_their_minimum_on():
    def losses(minimum):
        return results(validation_loss=lambda t: (t["epoch"] - minimum).abs())

    assert len(passed(losses(6))) == 6  # 8 epochs >= 1.2 * 6
    assert not len(passed(losses(7)))


def test_checkpoints_inside_epochs_are_no_minimum():
    found = results()
    inside = found["metrics"][found["metrics"]["epoch"] == 1].assign(step=5, epoch=0.5, validation_loss=-1)
    metrics = pd.concat([found["metrics"], inside])
    assert set(passed(with_tables(found, metrics=metrics))["epoch"]) == {MINIMUM}
    assert verdicts(with_tables(found, metrics=metrics)) == [HOLDS] * 5


def test_claims_stand_in_the_order_of_their_numbers_and_say_what_they_take():
    found = claims()
    assert list(found) == [str(number) for number in range(1, len(found) + 1)]
    for each in found.values():
        assert isinstance(each, Claim)
        assert set(each.needs) <= set(TABLES)
        assert set(each.settings) <= set(SETTINGS)
        alone = Results(
            results().runs, {name: results()[name] for name in each.needs}, {k: SETTINGS[k] for k in each.settings}
        )
        assert {*RUN, *(quantity.column for quantity in each.quantities)} <= set(each.measure(alone))
