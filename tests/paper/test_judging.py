"""Spread, limits and tests against SciPy, simulations and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fishertail.paper.claims.claim import Quantity
from fishertail.paper.claims.judging import Judged, Spread, holm, scaled

INFINITE = float("inf")
numbers = st.lists(st.floats(-10, 10), min_size=2, max_size=8).map(np.array)


@given(numbers)
def test_limits_and_p_are_those_of_a_t_test_where_nothing_is_shared(values):
    judged = Judged(values, Spread.pooled([values, np.array([])]), (0, INFINITE))
    if len(values) < 3 or values.std() < 1e-6:
        return
    found = stats.ttest_1samp(values, 0, alternative="less")
    assert judged.p_values() == pytest.approx([found.pvalue], abs=1e-9)
    low, high = stats.t.interval(0.9, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(judged.limits, [low, high], rtol=1e-6, atol=1e-9)
    assert judged.holds == (low >= 0)
    if abs(found.pvalue - 0.05) > 1e-9:
        assert judged.beyond == (found.pvalue < 0.05)


@given(numbers, numbers)
def test_two_networks_share_the_spread_of_a_pooled_t_test(a, b):
    if len(a) + len(b) < 4 or a.std() + b.std() < 1e-6:
        return
    spread = Spread.pooled([a, b])
    t = (a.mean() - b.mean()) / (spread.deviation * np.sqrt(1 / len(a) + 1 / len(b)))
    assert t == pytest.approx(stats.ttest_ind(a, b).statistic, rel=1e-6, abs=1e-9)
    assert spread.degrees == len(a) + len(b) - 2


def test_a_single_value_has_the_spread_of_the_others():
    spread = Spread.pooled([np.array([1.0, 2.0, 3.0]), np.array([7.0])])
    assert (spread.deviation, spread.degrees) == (1.0, 2)
    low, high = Judged(np.array([7.0]), spread, (0, INFINITE)).limits
    assert (7 - low, high - 7) == pytest.approx((stats.t.ppf(0.95, 2), stats.t.ppf(0.95, 2)))


@pytest.mark.parametrize("groups", [[[1.0]], [[1.0], [2.0]], [[1.0, 2.0]], []])
def test_fewer_than_two_degrees_decide_nothing(groups):
    spread = Spread.pooled([np.array(group) for group in groups])
    judged = Judged(np.array([5.0]), spread, (0, INFINITE))
    assert not spread.enough
    assert not judged.holds
    assert judged.p_values() == []
    assert np.isnan(judged.limits).all()


@pytest.mark.parametrize(("value", "holds", "p"), [(1.0, True, 1.0), (0.5, True, 1.0), (0.4, False, 0.0)])
def test_without_any_spread_the_values_are_compared(value, holds, p):
    judged = Judged(np.full(3, value), Spread(0.0, 2), (0.5, INFINITE))
    assert judged.holds == holds
    assert judged.p_values() == [p]


def test_equal_values_have_no_spread_whatever_their_rounding():
    values = np.full(7, np.log(100))
    assert Spread.pooled([values]).deviation == 0
    assert Judged(values, Spread.pooled([values]), (float(np.log(100)) - 1e-9, INFINITE)).holds


def test_both_bounds_are_tested_and_both_must_hold():
    values = np.array([0.9, 1.0, 1.1])
    spread = Spread.pooled([values])
    assert Judged(values, spread, (0.0, 2.0)).holds
    assert not Judged(values, spread, (0.0, 1.05)).holds
    low, high = Judged(values, spread, (0.0, 2.0)).p_values()
    assert min(low, high) > 0.99
    assert Judged(values, spread, (0.0, 0.5)).p_values()[1] < 0.01


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_p_by_its_rank_at_most_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= found <= min(1, len(p_values) * p) + 1e-12 for p, found in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_a_true_claim_at_its_bound_fails_in_a_twentieth_of_the_grids_at_most():
    """Four networks of three seeds and two quantities, all exactly at their bounds: 8 tests by Holm."""
    random, fails, holds = np.random.default_rng(0), 0, 0
    for trial in random.standard_normal((2000, 2, 2, 2, 3)):  # quantity, pair, network, seed
        judged = [
            Judged(network, Spread.pooled(list(pair)), (0, INFINITE))
            for quantity in trial
            for pair in quantity
            for network in pair
        ]
        fails += min(holm([p for each in judged for p in each.p_values()])) <= 0.05
        holds += judged[0].holds
    assert 0.03 < fails / 2000 < 0.06
    assert 0.04 < holds / 2000 < 0.06


def test_a_ratio_of_nothing_and_what_is_not_measured_are_left_out():
    ratio = Quantity("x", "x", lower=1, scale="ratio")
    assert scaled(ratio, [0.0, np.nan, np.inf, 1.0]).tolist() == [0.0]
