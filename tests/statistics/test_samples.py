"""Scores over checkpoints, against loops over single samples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishertail.statistics import samples

NAN = float("nan")


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"),
    [
        ([0, 1, 8, 16, 24, 80, 160], [0, 0.1, 1, 2, 3, 10, 20], [8, 16]),  # the first tenth, from epoch 1 on
        ([0, 8, 16, 24], [0, 1, 2, 3], [8]),  # a tenth has none: the first after training began
        ([0, 1, 2, 4], [0, 0.1, 0.2, 0.5], [1]),
        ([0, 10, 20, 200], [NAN] * 4, [10, 20]),
        ([0], [0], [0]),
        ([7], [NAN], [7]),
    ],
)
def test_early_steps(steps, epochs, expected):
    assert samples.early_steps(steps, epochs, 0.1) == expected


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=4))
def test_the_longest_stretch_is_that_of_a_loop(columns):
    length = min(len(column) for column in columns)
    masks = np.array([column[:length] for column in columns]).T
    steps = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128])[:length]
    spans = [
        max([steps[j] - steps[i] for i in range(length) for j in range(i, length) if all(column[i : j + 1])], default=0)
        for column in masks.T
    ]
    assert samples.longest_stretch(masks, steps).tolist() == spans


def test_the_history_of_an_outlier():
    norms = pd.DataFrame(np.tile(np.linspace(1, 2, 11), (4, 1)), index=[0, 5, 10, 40])
    norms.loc[[5, 10], 3] = 1000
    norms.loc[40, 7] = np.inf
    found = samples.outlier_history(norms, 10, "distance")
    assert found.loc[3].tolist() == [2, 0.5, 5, 5]
    assert found.loc[7].tolist() == [1, 0.25, 40, 0]
    assert found.loc[0].tolist() == [0, 0, -1, 0]


def test_means_over_the_steps_asked_for_or_over_all_where_none_is_known():
    scores = pd.DataFrame({"a": [1.0, 3.0, 8.0]}, index=[0, 1, 2])
    assert samples.mean_score(scores, [0, 1, 9])["a"] == 2
    assert samples.mean_score(scores, [9])["a"] == 4


def test_means_over_seeds():
    rows = [
        {"sample": s, "seed": seed, "grand": s + seed, "el2n": 1, "loss": 2, "a_x": 3}
        for s in (0, 1)
        for seed in (0, 2)
    ]
    assert samples.mean_over_seeds(pd.DataFrame(rows))["grand"].tolist() == [1, 2]
