"""E*, the epoch of lowest validation loss, and whether a run has passed it."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishertail.statistics.minimum import lowest_validation_loss

STOPPED = "stopped early: extend epochs"
STEPS = 3  # of an epoch


def metrics(losses):
    """Metrics of a run whose losses at the ends of epochs are these, from epoch 0 on."""
    epochs = range(len(losses))
    return pd.DataFrame({"step": [STEPS * e for e in epochs], "epoch": map(float, epochs), "validation_loss": losses})


@pytest.mark.parametrize(
    ("losses", "epoch", "status"),
    [
        ([3, 1, 2], 1, "passed"),
        ([3, 2, 1], 2, STOPPED),
        ([3, 1, 1], 1, "passed"),  # of equals the first
        ([1], 0, STOPPED),  # not trained
        ([1, 3, 2], 2, STOPPED),  # before training there is no minimum
        ([9] * 5 + [1, 2], 5, "passed"),  # 6 >= 1.2 * 5
        ([9] * 6 + [1, 2], 6, STOPPED),  # 7 < 1.2 * 6
        ([9] * 6 + [1, 2, 2], 6, "passed"),
        ([3, 1, math.nan, 2], 1, "passed"),  # what is no number is not the lowest
    ],
)
def test_lowest_validation_loss(losses, epoch, status):
    for table in (metrics(losses), metrics(losses)[::-1]):
        found = lowest_validation_loss(table)
        assert (found.epoch, found.step, found.status) == (epoch, STEPS * epoch, status)
        assert (found.validation_loss, found.last_epoch) == (losses[epoch], len(losses) - 1)


def test_checkpoints_inside_epochs_are_left_out():
    inside = pd.DataFrame({"step": [1, 2, 4, 8], "epoch": [1 / 3, 2 / 3, 4 / 3, 8 / 3], "validation_loss": 0.0})
    found = lowest_validation_loss(pd.concat([metrics([3, 2, 1, 2]), inside]))
    assert (found.epoch, found.step, found.last_epoch) == (2, 6, 3)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30))
def test_no_end_of_an_epoch_is_lower_and_none_before_it_as_low(losses):
    found = lowest_validation_loss(metrics(losses))
    assert found.validation_loss == min(losses[1:])
    assert all(loss > found.validation_loss for loss in losses[1 : found.epoch])
    assert found.passed == (5 * found.last_epoch >= 6 * found.epoch)
