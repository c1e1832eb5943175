"""Verdicts on made-up results whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fishertail.measurements import data_sensitivity
from fishertail.paper.claims import claim4, verdicts
from fishertail.paper.claims.claim import Claim, claims
from fishertail.paper.claims.claim1 import measure as measure_1
from fishertail.paper.claims.claim2 import fall, growth
from fishertail.paper.claims.claim4 import gaussian_decrease
from fishertail.paper.claims.claim5 import measure as measure_5
from fishertail.paper.claims.claim5 import onset
from fishertail.paper.claims.judging import FAILS, HOLDS, NOT_RUN, STOPPED_EARLY, UNDECIDED
from fishertail.paper.claims.points import times
from fishertail.paper.tables import claims as claims_table
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from tests.paper.made_up import MINIMUM, PER_EPOCH, SETTINGS, STEPS, TABLES, joined, results, without

CLAIMS = range(1, 8)


def of_claims(found: Results) -> list[str]:
    return verdicts.verdicts_table(verdicts.effects_table(found))["verdict"].tolist()


def of_networks(found: Results, claim: int) -> dict[str, str]:
    table = verdicts.networks_table(verdicts.effects_table(found))
    table = table[table["claim"] == claim]
    return {f"{row.dataset}-{row.model}/{row.batch_size}": row.verdict for row in table.itertuples()}


def test_where_all_claims_are_true_all_hold():
    assert of_claims(results()) == [HOLDS] * 7


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        (1, {"near_zero_share": lambda t: 0.05 + 0.001 * t["seed"]}),
        (1, {"largest": lambda t: t["batch_size"] / 100 + 0.01 * t["seed"]}),
        (2, {"eigenvalue": lambda t: (1 + 0.1 * t["seed"]) * t["batch_size"]}),  # does not grow
        (2, {"median": lambda t: 0.1 + 0.01 * t["seed"]}),  # does not fall
        (3, {"eigenvalue": lambda t: t["eigenvalue"] * (16 / t["batch_size"])}),
        (3, {"largest": lambda t: 100 + 10 * t["seed"] - t["batch_size"] / 10}),
        (3, {"near_zero_share": lambda t: 0.5 + t["batch_size"] / 1000 + 0.001 * t["seed"]}),
        (4, {"decrease_percent": lambda t: 40 + 10 * (t["step"] == 0) - t["seed"]}),
        (4, {"decrease_percent": lambda t: 60 + t["seed"] + 20 * (t["step"] == 0)}),  # as much before training
        (6, {"rms": lambda t: 0.02 + 0.001 * t["seed"]}),
    ],
)
def test_a_claim_that_is_false_fails_alone(claim, changes):
    assert of_claims(results(**changes)) == [FAILS if number == claim else HOLDS for number in CLAIMS]


@pytest.mark.parametrize(
    ("counts", "ratio"),
    [
        (lambda t: 200.0 * (t["epoch"] >= 1) + t["seed"], 0.8 * 1.25**0.05 / MINIMUM),  # 0 at 0.8, 200 at epoch 1
        (lambda t: 0.0 * t["seed"], 4),  # never, though training went on to twice the epoch
    ],
)
def test_outliers_from_the_start_or_never_fail_the_fifth_claim(counts, ratio):
    found = results(outliers_distance=counts)
    assert of_networks(found, 5) == dict.fromkeys(of_networks(found, 5), FAILS)
    assert measure_5(found)["onset_ratio"].iloc[0] == pytest.approx(ratio)
    assert of_claims(found)[6] == FAILS  # nor do they tell when generalization ends


def test_outliers_that_never_came_say_nothing_before_twice_the_minimum():
    found = results(steps=[step for step in STEPS if step <= 60], outliers_distance=lambda t: 0.0 * t["seed"])
    assert set(of_networks(found, 5).values()) == {STOPPED_EARLY}


def test_networks_that_were_not_run_are_in_the_family_of_tests():
    """A quantity with a bound in four networks, of which two were run, makes four tests."""
    rms = {16: 0.08, 256: 0.3}  # of claim 6, which says at least 0.1
    found = results(networks=[("mnist", "fc")], rms=lambda t: t["batch_size"].map(rms) * 1.1 ** t["seed"])
    effects = verdicts.effects_table(found).query("claim == 6 and dataset == 'mnist' and batch_size == '16'")
    below = np.log(0.08 * 1.1 / 0.1) * np.sqrt(3) / np.log(1.1)
    (p,) = effects.loc[effects["decides"], "p"].dropna()
    assert p == pytest.approx(4 * stats.t.cdf(below, 4))


def test_runs_that_ended_too_early_are_no_verdict():
    found = verdicts.effects_table(results(steps=[step for step in STEPS if step <= 40]))
    assert set(found[found["decides"]]["verdict"]) == {STOPPED_EARLY}
    assert set(verdicts.verdicts_table(found)["verdict"]) == {STOPPED_EARLY}


def test_networks_of_the_paper_that_were_not_run_are_named():
    found = results(networks=[("mnist", "fc")])
    assert of_networks(found, 1) == {
        "mnist-fc/16": HOLDS,
        "mnist-fc/256": HOLDS,
        "cifar10-conv/16": NOT_RUN,
        "cifar10-conv/256": NOT_RUN,
    }
    table = verdicts.verdicts_table(verdicts.effects_table(found)).set_index("claim").loc[1]
    assert (table["verdict"], table["holds"], table["not_run"]) == (NOT_RUN, 2, 2)
    assert table["networks"] == "holds: mnist-fc/16, mnist-fc/256; not run: cifar10-conv/16, cifar10-conv/256"


def test_other_networks_on_the_papers_data_have_no_vote_even_alone():
    assert of_claims(results(networks=[("mnist", "conv"), ("cifar10", "fc")])) == [NOT_RUN] * 7


def test_stopping_is_judged_by_the_networks_that_vote():
    """Extensions whose outliers come early change no verdict, though thresholds are fitted on them, too."""
    early = {"outliers_distance": lambda t: 200.0 * (t["epoch"] >= 1) + t["seed"]}
    both = joined(results(), results(networks=[("mnist", "conv"), ("cifar10", "fc")], **early))
    effects = verdicts.effects_table(both)
    assert set(effects.loc[effects["claim"] == 7, "seeds"]) == {4}  # networks


def test_one_network_has_nothing_to_fit_a_threshold_on():
    found = verdicts.effects_table(results(networks=[("mnist", "fc")]))
    assert set(found.loc[found["claim"] == 7, "note"]) == {"nothing to fit a threshold on"}


def test_a_third_batch_size_leaves_the_papers_pair_to_be_compared():
    found = results(batch_sizes=[16, 256, 1024])
    assert of_networks(found, 3) == {"mnist-fc/256 against 16": HOLDS, "cifar10-conv/256 against 16": HOLDS}


def test_where_some_seeds_stopped_early_nothing_holds_by_the_others():
    """Outliers never came in two of three seeds, which were not trained to twice their minimum."""
    late = {"steps": [step for step in STEPS if step <= 60], "outliers_distance": lambda t: 0.0 * t["seed"]}
    found = joined(results(seeds=[0]), results(seeds=[1, 2], **late))
    assert set(of_networks(found, 5).values()) == {STOPPED_EARLY}
    unfinished = joined(results(seeds=[0, 1]), results(seeds=[2], steps=[step for step in STEPS if step <= 40]))
    assert set(of_networks(unfinished, 1).values()) == {STOPPED_EARLY}


def test_what_was_not_measured_in_a_seed_does_not_hold_in_every_seed():
    found = without(results(), eigenvalue_count=lambda t: t["seed"] == 1)
    assert set(of_networks(found, 6).values()) == {UNDECIDED}


def test_without_any_table_there_are_no_claims():
    alone = Results(results().runs, {"metrics": results()["metrics"]}, SETTINGS)
    assert verdicts.verdicts_table(verdicts.effects_table(alone)).empty


def test_tables_without_a_claim_have_their_columns():
    found = results(seeds=[0])
    made = claims_table.TABLE.make(replace(found, tables={name: found[name] for name in ("metrics", "spectrum")}))
    for table in claims_table.TABLE.tables:
        table.check(made[table.name], table.name)
        assert made[table.name].empty


def test_against_a_network_whose_gradients_are_0_there_is_no_ratio():
    dead = {name: lambda t, name=name: t[name].where(t["batch_size"] == 256, 0.0) for name in ("eigenvalue", "largest")}
    effects = verdicts.effects_table(results(**dead))
    assert effects[effects["claim"] == 3]["seeds"].tolist() == [0, 0, 3] * 2
    assert effects[effects["claim"] == 3]["verdict"].tolist() == [UNDECIDED, UNDECIDED, HOLDS] * 2


def test_one_batch_size_of_the_paper_leaves_the_pair_not_run():
    assert of_networks(results(batch_sizes=[16]), 3) == {
        "mnist-fc/256 against 16": NOT_RUN,
        "cifar10-conv/256 against 16": NOT_RUN,
    }


def test_other_networks_have_no_vote_beside_those_of_the_paper():
    extension = results(networks=[("mnist", "conv")], decrease_percent=lambda t: 10 + t["seed"])
    found = joined(results(), extension)
    assert of_claims(found) == [HOLDS] * 7
    fourth = verdicts.verdicts_table(verdicts.effects_table(found)).set_index("claim").loc[4]
    assert fourth["others"] == "fails: mnist-conv/16, mnist-conv/256"


def test_where_there_is_none_of_the_papers_networks_all_vote():
    assert of_claims(results(networks=[("digits", "fc"), ("digits", "conv")])) == [HOLDS] * 7
    failing = joined(
        results(networks=[("digits", "fc")]),
        results(networks=[("digits", "conv")], decrease_percent=lambda t: 10 + t["seed"]),
    )
    assert of_claims(failing)[3] == FAILS


def test_a_single_seed_is_judged_by_the_spread_of_the_other_batch_size():
    """As CIFAR-10/conv at 256, of which one seed has to do."""
    alone = joined(results(batch_sizes=[16]), results(batch_sizes=[256], seeds=[0]))
    assert set(of_networks(alone, 1).values()) == {HOLDS}
    effects = verdicts.effects_table(alone)
    large = effects[(effects["claim"] == 1) & (effects["batch_size"] == "256") & (effects["dataset"] == "mnist")]
    small = effects[(effects["claim"] == 1) & (effects["batch_size"] == "16") & (effects["dataset"] == "mnist")]
    width = [np.log(part["high"] / part["low"]).to_numpy()[1] for part in (large, small)]  # of the largest a_x
    assert width[0] == pytest.approx(np.sqrt(3) * width[1])  # the same s: three seeds against one


def test_single_seeds_alone_decide_nothing():
    found = verdicts.effects_table(results(seeds=[0]))
    found = found[found["decides"] & (found["claim"] < 6)]
    assert set(found["verdict"]) == {UNDECIDED}
    assert set(found["note"]) == {"too few seeds to know their spread"}
    assert found["effect"].notna().all()


def test_a_bound_that_is_passed_in_one_seed_is_undecided_and_cannot_fail():
    found = results(trace=lambda t: 100 + 400 * (t["seed"] == 1))
    assert set(of_networks(found, 6).values()) == {UNDECIDED}
    assert set(of_networks(results(trace=lambda t: 1900), 6).values()) == {UNDECIDED}


def test_eigenvalues_near_0_are_those_below_a_hundredth_of_the_largest_whatever_was_counted():
    found = verdicts.effects_table(results(above_share=lambda t: 0.9))  # as with another ratio
    shares = found[found["quantity"] == "above_share"]
    assert (shares["effect"].between(0.0009, 0.0011)).all()


@pytest.mark.parametrize("missing", [1, 8, 20, 80])
def test_growth_is_not_measured_where_a_point_is_missing(missing):
    found = without(results(), spectrum=lambda t: t["step"] == missing)
    effects = verdicts.effects_table(found)
    rows = effects[(effects["claim"] == 2) & effects["quantity"].str.startswith("largest lambda_1")]
    assert set(rows["note"]) == {"not measured"}


@pytest.mark.parametrize("claim", [1, 2, 5])
def test_checkpoints_between_the_points_enter_no_verdict(claim):
    """However wild: growth, share and onset are of the points alone."""
    between = results(
        steps=[3, 5, 25, 50, 70],
        eigenvalue=lambda t: 1e9,
        largest=lambda t: 1e-9,
        near_zero_share=lambda t: 0.0,
        median=lambda t: 1e9,
        outliers_distance=lambda t: 900.0,
        validation_loss=lambda t: 5.0,
    )
    effects = [verdicts.effects_table(each) for each in (results(), joined(results(), between))]
    of_claim = [each[each["claim"] == claim].reset_index(drop=True) for each in effects]
    pd.testing.assert_frame_equal(*of_claim)


def test_what_comes_after_twice_the_minimum_enters_no_verdict():
    late = results(steps=[110, 160], eigenvalue=lambda t: 1e9, median=lambda t: 1e9, validation_loss=lambda t: 9.0)
    effects = [verdicts.effects_table(each) for each in (results(), joined(results(), late))]
    pd.testing.assert_frame_equal(*(each[each["claim"] < 7] for each in effects))


def test_the_points_are_those_of_the_criteria():
    (time, *_) = times(results()).values()
    assert time.points() == list(STEPS)
    assert time.points(first=1) == [10, 16, 20, 30, 40, 60, 80]
    assert (time.end, time.per_epoch) == (8, PER_EPOCH)


def test_shares_are_medians_over_time_of_what_is_linear_between_points():
    near = {10: 0.9, 16: 0.9, 20: 0.6, 30: 0.6, 40: 0.5, 60: 0.3, 80: 0.1}
    found = results(seeds=[0], near_zero_share=lambda t: t["step"].map(near).fillna(0.0))
    logit = np.log(0.5 / 0.5) + (4.5 - 4) / 2 * np.log(0.3 / 0.7)  # half-way, at epoch 4.5, between 4 and 6
    assert measure_1(found)["near_zero_share"].iloc[0] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-2)
    none = results(seeds=[0], near_zero_share=lambda t: 0.0)
    assert measure_1(none)["near_zero_share"].iloc[0] == pytest.approx(0.5 / 1000)  # half a sample


def test_growth_is_of_medians_of_three():
    assert growth(np.array([1.0, 1, 9, 1, 1])) == 1  # a single peak is noise
    assert growth(np.array([1.0, 3, 4, 5, 2])) == 4
    assert np.isnan(growth(np.array([1.0, 2])))


def test_a_fall_is_from_the_largest_and_ends_at_what_is_as_good_as_0():
    assert fall(np.array([1.0, 5, 2])) == 2.5
    assert fall(np.array([1.0, 0])) == pytest.approx(1e12)
    assert fall(np.zeros(3)) == 1


def test_the_onset_is_linear_in_the_logarithm_of_the_epoch():
    assert onset(np.array([0, 1, 4]), np.array([0, 0, 0.02])) == pytest.approx(2)
    assert onset(np.array([0, 1, 4]), np.array([0.5, 0.01, 0])) == 1  # epoch 0 does not count
    assert np.isnan(onset(np.array([0, 1, 4]), np.array([0.5, 0, 0.009])))


def test_what_a_gaussian_loses_is_what_samples_of_one_lose():
    squares = np.sort(np.random.default_rng(0).standard_normal(1_000_000) ** 2)
    assert gaussian_decrease(0.1) == pytest.approx(1 - squares[:900_000].mean() / squares.mean(), abs=2e-3)
    assert gaussian_decrease(0.1) == pytest.approx(0.377, abs=5e-4)


def test_the_null_of_claim_4_is_read_where_it_stands():
    assert claim4.AT_RANDOM == data_sensitivity.AT_RANDOM


def test_sentences_name_the_settings():
    changed = {"measurements.ax_statistics.near_zero": 0.01, "measurements.trimmed_eigenvalues.fraction": 0.2}
    quantities = set(verdicts.effects_table(results(settings=SETTINGS | changed))["quantity"])
    assert {"share of the samples with |a_x| < 0.01", "largest |a_x| / 0.01"} <= quantities
    assert "decrease of lambda_1 without 20% of the samples" in quantities


def test_claims_stand_in_the_order_of_their_numbers_and_say_what_they_take():
    found, made_up = claims(), results()
    assert list(found) == [str(number) for number in range(1, len(found) + 1)]
    for each in found.values():
        assert isinstance(each, Claim)
        assert set(each.settings) <= set(SETTINGS)
        taken = {name: made_up[name] for name in (*each.needs, *each.uses) if name in TABLES}
        alone = Results(made_up.runs, taken, {key: SETTINGS[key] for key in each.settings})
        assert {*RUN, *(quantity.column for quantity in each.quantities)} <= set(each.measure(alone))


@pytest.mark.parametrize("claim", claims().values(), ids=lambda claim: claim.name)
def test_a_claim_lacks_what_was_not_measured_and_says_so(claim):
    made_up = results()
    needed = Results(made_up.runs, {name: made_up[name] for name in claim.needs}, SETTINGS)
    effects = verdicts.effects_table(needed)
    assert (int(claim.name) in set(effects["claim"])) == (claim.name != "6")


def test_the_sixth_claim_is_undecided_by_half_of_its_tables():
    made_up = results()
    half = Results(made_up.runs, {name: made_up[name] for name in ("metrics", "eigenvalue_count")}, SETTINGS)
    effects = verdicts.effects_table(half)
    assert set(of_networks(half, 6).values()) == {UNDECIDED}
    assert set(effects[effects["quantity"].str.startswith("rms")]["note"]) == {"not measured"}
