"""The axis of time, and the columns on it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from fishertail.results import drawing


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def ticks(time, last):
    """Where ticks are, by their texts."""
    axis = plt.subplots()[1].xaxis
    time.label(axis, last)
    places = axis.get_major_locator().tick_values(0, 1)
    found = {axis.get_major_formatter()(place, position): place for position, place in enumerate(places)}
    plt.close("all")
    return found


@given(st.integers(1, 20_000), st.floats(0.2, 1000))
def test_ticks_are_few_apart_and_where_they_say(steps_per_epoch, last):
    first = 1 / steps_per_epoch
    time = drawing.LogarithmicTime(np.array([0, first, last]))
    found = ticks(time, last)
    values = {float(text): place for text, place in found.items()}
    assert found["0"] == -1.5
    assert 2 <= len(values) <= 13
    width = float(time.positions(last)) + 1.5
    for value, place in values.items():
        if value:
            assert place == pytest.approx(float(time.positions(value)), abs=1e-4)
            assert min(first, last) * 0.9999 <= value <= max(first, last) * 1.0001
    places = np.sort(list(values.values()))
    assert np.diff(places).min() > 0.04 * width


def test_steps_of_an_epoch_are_marked_by_powers_of_ten():
    time = drawing.LogarithmicTime(np.array([0, *2.0 ** np.arange(13) / 3750, *range(1, 31)]))
    assert list(ticks(time, 30)) == ["0", "0.001", "0.01", "0.1", "1", "10"]


def test_the_end_of_a_long_training_can_be_read_off():
    time = drawing.LogarithmicTime(np.array([0, *2.0 ** np.arange(13) / 3125, *range(1, 65)]))
    assert list(ticks(time, 64.0)) == ["0", "0.001", "0.1", "10", "64"]


def test_ends_of_epochs_are_marked_in_between_too():
    assert list(ticks(drawing.LogarithmicTime(np.arange(21.0)), 20)) == ["0", "1", "2", "5", "10", "20"]


def test_a_network_before_training_has_one_tick():
    assert "0" in ticks(drawing.LogarithmicTime(np.array([0.0])), 0.0)


@given(st.lists(st.floats(-1.5, 30), min_size=2, max_size=30, unique=True))
def test_columns_enclose_their_checkpoints_and_the_last_ends_with_training(positions):
    positions = np.sort(positions)
    edges = drawing.edges_of(positions)
    assert len(edges) == len(positions) + 1
    assert edges[-1] == positions[-1]
    assert (edges[:-1] <= positions).all()
    assert (positions <= edges[1:]).all()


def test_logarithmic_ticks_are_written_out_unless_small():
    for low, high, expected in ((1, 90, "10"), (1e-6, 1, "$")):
        axes = plt.subplots()[1]
        axes.set(yscale="log", ylim=(low, high))
        drawing.log_ticks(axes.yaxis)
        axes.figure.canvas.draw()
        assert any(text.get_text().startswith(expected) for text in axes.get_yticklabels())


def test_a_line_through_few_checkpoints_shows_them():
    """Three points joined by a straight line would look like a course that nobody measured."""
    axes = plt.subplots()[1]
    for size, epochs in ((16, np.arange(20.0)), (256, np.arange(3.0))):
        of_size = pd.DataFrame({"epoch": epochs, "mean": epochs, "lowest": epochs, "highest": epochs, "seeds": 1})
        drawing.curves(axes, of_size.assign(batch_size=size))
    markers = {line.get_label(): line.get_marker() for line in axes.lines}
    assert markers == {"batch size 16": "", "batch size 256": "s"}
