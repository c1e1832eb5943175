"""Where effects, intervals and bounds stand on their axes."""

import math

import numpy as np
import pandas as pd
import pytest

from fishertail.page import forest
from fishertail.paper.claims.claim import claims

COLUMNS = ["dataset", "model", "batch_size", "seeds", "effect", "low", "high", "verdict"]


def forests(claim, rows, votes=True):
    """The forests of a claim whose quantities all have these rows."""
    declared = claims()[claim].quantities
    effects = pd.concat(
        [
            pd.DataFrame([("digits", "fc", "16", 3, *row) for row in rows], columns=COLUMNS).assign(
                claim=int(claim), quantity=each.column, claimed=each.bound, note="", votes=votes
            )
            for each in declared
        ]
    )
    verdicts = pd.DataFrame([{"claim": int(claim), "statement": "It holds.", "verdict": "holds"}])
    (found,) = forest.forests(effects, verdicts)
    return dict(zip([each.column for each in declared], found["quantities"], strict=True))


def quantity_of(scale):
    return next((claim, each) for claim in claims().values() for each in claim.quantities if each.scale == scale)


def place(transform, value, axis):
    """Where a value is, from two others whose places are known."""
    (low, at_low), (high, at_high) = axis
    return at_low + (transform(value) - transform(low)) / (transform(high) - transform(low)) * (at_high - at_low)


@pytest.mark.parametrize(
    ("scale", "transform", "values"),
    [
        ("ratio", math.log, (4, 5, 11)),
        ("share", lambda share: math.log(share / (1 - share)), (0.2, 0.5, 0.97)),
    ],
)
def test_places_follow_the_scale_on_which_the_mean_is_taken(scale, transform, values):
    claim, quantity = quantity_of(scale)
    low, effect, high = values
    shown = forests(claim.name, [(effect, low, high, "holds"), (high, low, high, "holds")])[quantity.column]
    row, other = shown["rows"]
    assert 0 <= row["low"] < row["at"] < row["high"] <= 100
    axis = (low, row["low"]), (high, row["high"])
    assert row["at"] == pytest.approx(place(transform, effect, axis), abs=0.02)
    assert other["at"] == row["high"]
    assert shown["bounds"] == [pytest.approx(place(transform, quantity.lower, axis), abs=0.02)]
    for tick in shown["ticks"]:
        value = float(tick["text"].replace(",", ""))
        assert tick["at"] == pytest.approx(place(transform, value, axis), abs=0.3)
    assert 2 <= len(shown["ticks"]) <= 6
    assert row["reaches"] == [False, False]


def test_an_interval_over_twenty_powers_of_ten_leaves_the_effects_apart():
    claim, quantity = quantity_of("ratio")
    rows = [(3.0, 1e-12, 1e13, "undecided"), (30.0, 20.0, 40.0, "holds"), (np.nan, np.nan, np.nan, "undecided")]
    wide, narrow, absent = forests(claim.name, rows)[quantity.column]["rows"]
    assert wide["reaches"] == [True, True]
    assert (wide["low"], wide["high"]) == (0, 100)
    assert narrow["at"] - wide["at"] > 20
    assert (absent["at"], absent["low"], absent["text"]) == (None, None, "–")


def test_one_effect_at_the_bound_and_infinite_ones_are_no_errors():
    claim, quantity = quantity_of("ratio")
    (row,) = forests(claim.name, [(quantity.lower, np.nan, np.nan, "undecided")])[quantity.column]["rows"]
    assert row["at"] == forests(claim.name, [(quantity.lower, np.nan, np.nan, "x")])[quantity.column]["bounds"][0]
    (row, _) = forests(claim.name, [(0.0, 0.0, np.inf, "undecided"), (2.0, 1.0, 3.0, "holds")])[quantity.column]["rows"]
    assert 0 <= row["at"] <= 100


def test_numbers_keep_what_is_left_to_the_end_of_their_scale():
    claim, quantity = quantity_of("share")
    (row,) = forests(claim.name, [(0.999934, 0.9987, 0.9999987, "holds")])[quantity.column]["rows"]
    assert row["text"] == "0.999934 (0.9987 to 0.9999987)"


def test_a_share_far_from_the_powers_of_ten_has_ticks():
    ticks = forests("4", [(0.377, 0.377, 0.377, "")])["decrease_of_gaussian"]["ticks"]
    assert {"0.3", "0.4"} <= {tick["text"] for tick in ticks}


def test_networks_without_a_vote_are_shown_as_far_as_they_were_measured():
    claim, quantity = quantity_of("ratio")
    rows = [(3.0, 2.0, 4.0, ""), (np.nan, np.nan, np.nan, "")]
    shown = forests(claim.name, rows, votes=[False, False])[quantity.column]
    assert [row["text"] for row in shown["rows"]] == ["3 (2 to 4)"]
    assert len(shown["csv"]) == 2
    assert len(forests(claim.name, rows, votes=[False, True])[quantity.column]["rows"]) == 2


def test_networks_without_a_vote_are_marked_and_quantities_without_a_bound_have_an_axis():
    claim = next(each for each in claims().values() if any(not quantity.bound for quantity in each.quantities))
    shown = forests(claim.name, [(np.nan, np.nan, np.nan, "")])
    unbounded = next(quantity for quantity in claim.quantities if not quantity.bound)
    assert shown[unbounded.column]["bounds"] == []
    assert shown[unbounded.column]["rows"][0]["votes"] is True
