"""The figures: what is drawn is what the table beside it says, the same bytes every time."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from fishertail import figures, histograms, storage

RECORD = {"rule": "figure", "parameters": {"note": "a (b) < c & d"}, "data": ["abc"], "versions": {}}
RUNS = [("mnist", model, batch_size, seed) for model in ("fc", "conv") for batch_size in (16, 256) for seed in (0, 1)]
EDGES = histograms.bin_edges()


def by_run(rows):
    parts = [
        pd.DataFrame(rows(*run)).assign(dataset=run[0], model=run[1], batch_size=run[2], seed=run[3]) for run in RUNS
    ]
    return pd.concat(parts, ignore_index=True)


METRICS = by_run(
    lambda d, m, b, s: {
        "epoch": range(5),
        "validation_accuracy": np.linspace(0.1, 0.9, 5) - 0.1 * s,
        "validation_loss": [2.3, 1.0, 0.5 + s, 0.7 + s, 0.9 + s],
    }
)
OUTLIERS = by_run(lambda d, m, b, s: {"epoch": range(5), "outliers_distance": np.arange(5) * b + s, "outliers_norm": 9})
MINIMA = by_run(lambda d, m, b, s: {"epoch": [2], "minimum": "reached"})


def histogram(epoch, run):
    a_x = np.random.default_rng(epoch + run[3]).normal(size=100) * run[2]
    counts = {"bin_left": EDGES[:-1], "bin_right": EDGES[1:], "count": histograms.histogram(a_x, EDGES)}
    return pd.DataFrame({"epoch": epoch, **counts})


HISTOGRAMS = by_run(lambda *run: pd.concat([histogram(epoch, run) for epoch in (0, 1, 4)]))
TABLE = pd.DataFrame({"item": ["CPU", "cores"], "value": ["x", "2"], "A": [0.123456, 2e-9]})
DRAWINGS = {
    "fig1": (figures.validation_accuracy, METRICS),
    "fig2": (figures.ax_over_epochs, HISTOGRAMS, MINIMA, 16),
    "fig4": (figures.ax_at_minimum, HISTOGRAMS[HISTOGRAMS["epoch"] == 1], MINIMA),
    "fig6": (figures.table_figure, TABLE),
    "fig7": (figures.outlier_curves, OUTLIERS, METRICS, "distance"),
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def draw(name):
    function, *arguments = DRAWINGS[name]
    return function(*arguments)


def provenance_of_svg(content):
    return json.loads(ElementTree.fromstring(content).find(".//{http://purl.org/dc/elements/1.1/}description").text)


def provenance_of_pdf(content):
    literal = re.search(rb"/Subject \(((?:[^()\\]|\\.)*)\)", content)[1]
    return json.loads(re.sub(rb"\\(.)", rb"\1", literal))


def write(folder, function, *arguments):
    folder.mkdir()
    paths = [str(folder / f"figure.{suffix}") for suffix in ("svg", "pdf", "csv")]
    figures.write(function, *paths, RECORD, *arguments)
    return [open(path, "rb").read() for path in paths]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_drawn_the_same_twice_and_carries_its_provenance(tmp_path, name):
    first, second = (write(tmp_path / str(i), *DRAWINGS[name]) for i in range(2))
    assert first == second
    svg, pdf, _ = first
    assert provenance_of_svg(svg) == provenance_of_pdf(pdf) == RECORD
    assert storage.read_provenance(tmp_path / "0" / "figure.csv").items() >= RECORD.items()


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_csv_holds_what_is_drawn(tmp_path, name):
    write(tmp_path / "figure", *DRAWINGS[name])
    _, table = draw(name)
    found = storage.read_table(tmp_path / "figure" / "figure.csv")
    pd.testing.assert_frame_equal(found, table.reset_index(drop=True), check_dtype=False)


def test_seeds_become_a_mean_and_a_band():
    _, table = draw("fig1")
    row = table[(table["model"] == "fc") & (table["batch_size"] == 16) & (table["epoch"] == 4)].iloc[0]
    assert [row["mean"], row["lowest"], row["highest"]] == pytest.approx([0.85, 0.8, 0.9])
    assert row["seeds"] == 2


def colours(figure):
    """The colour of each batch size wherever it is drawn."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            colour = handle.get_color() if hasattr(handle, "get_color") else handle.get_edgecolor()
            found.setdefault(label, set()).add(colors.to_hex(colour).upper())
    return {label: colour for label, colour in found.items() if label.startswith("batch size")}


@pytest.mark.parametrize("name", ["fig1", "fig4", "fig7"])
def test_batch_sizes_keep_their_colours(name):
    figure, _ = draw(name)
    assert colours(figure) == {"batch size 16": {"#0072B2"}, "batch size 256": {"#D55E00"}}


def test_a_batch_size_keeps_its_colour_in_another_grid():
    grid = METRICS.assign(batch_size=METRICS["batch_size"].replace({16: 256, 256: 64}))
    found = colours(figures.validation_accuracy(grid)[0])
    assert found["batch size 256"] == {"#D55E00"}
    assert not found["batch size 64"] & {"#D55E00", "#0072B2"}


def test_fig_1_draws_the_means_in_percent():
    figure, table = draw("fig1")
    line = next(line for line in figure.axes[1].lines if line.get_label() == "batch size 16")
    shown = table[(table["model"] == "conv") & (table["batch_size"] == 16)]
    np.testing.assert_allclose(line.get_ydata(), 100 * shown["mean"])
    np.testing.assert_array_equal(line.get_xdata(), shown["epoch"])


def test_fig_2_shades_the_shares_of_its_batch_size_and_marks_the_lowest_loss():
    figure, table = draw("fig2")
    assert set(table["batch_size"]) == {16}
    mesh = figure.axes[0].collections[0]
    shown = table[table["model"] == "fc"].sort_values(["epoch", "bin_left"])["mean"].to_numpy()
    np.testing.assert_array_equal(mesh.get_array().filled(0), shown.reshape(3, -1).T)
    assert {tuple(line.get_xdata()) for line in figure.axes[0].lines} == {(2, 2)}


def last_epoch_lowest(run):
    """MINIMA and METRICS in which the runs of `run` (model, batch size) stop while their validation loss falls."""
    minima, metrics = MINIMA.copy(), METRICS.copy()
    for table in (minima, metrics):
        table["early"] = (table["model"] == run[0]) & (table["batch_size"] == run[1])
    minima.loc[minima["early"], ["epoch", "minimum"]] = [4, "not reached: extend epochs"]
    metrics.loc[metrics["early"], "validation_loss"] = 2.0 - 0.1 * metrics["epoch"]
    return minima, metrics


def test_a_minimum_that_is_not_reached_is_not_marked_and_named_where_it_is_used():
    minima, metrics = last_epoch_lowest(("conv", 16))
    over_epochs, _ = figures.ax_over_epochs(HISTOGRAMS, minima, 16)
    assert [bool(axes.lines) for axes in over_epochs.axes[:2]] == [True, False]
    at_minimum, table = figures.ax_at_minimum(HISTOGRAMS[HISTOGRAMS["epoch"] == 4], minima)
    notes = [[text.get_text() for text in axes.texts] for axes in at_minimum.axes]
    assert notes == [[], ["16: lowest loss passed in 0 of 2"]]
    assert set(table[table["seeds_past_minimum"] == 0][["model", "batch_size"]].itertuples(index=False, name=None)) == {
        ("conv", 16)
    }
    curves, _ = figures.outlier_curves(OUTLIERS, metrics, "distance")
    marks = [sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":") for axes in curves.axes]
    assert marks == [[1, 1], [1], [1, 1], [1]]


def test_no_minimum_reached_at_all_is_drawn_without_a_legend():
    figure, _ = figures.ax_over_epochs(HISTOGRAMS, MINIMA.assign(minimum="not reached: extend epochs"), 16)
    assert not figure.legends


def test_fig_4_draws_the_shares_of_each_bin():
    figure, table = draw("fig4")
    stairs = next(patch for patch in figure.axes[0].patches if patch.get_label() == "batch size 256")
    shown = table[(table["model"] == "fc") & (table["batch_size"] == 256)]
    np.testing.assert_array_equal(stairs.get_data().values, shown["mean"])


def test_a_table_shows_every_cell_to_four_digits():
    figure, _ = draw("fig6")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["item", "value", "A", "CPU", "x", "0.1235", "cores", "2", "2e-09"]


def test_the_curve_of_fig_7_is_the_table():
    figure, table = draw("fig7")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "batch size 256")
    shown = table[(table["quantity"] == "outliers") & (table["model"] == "fc") & (table["batch_size"] == 256)]
    np.testing.assert_array_equal(line.get_ydata(), shown["mean"])
    np.testing.assert_array_equal(shown["mean"], np.arange(5) * 256 + 0.5)


def test_shares_add_up_to_one():
    for name in ("fig2", "fig4"):
        _, table = draw(name)
        keys = [key for key in ("model", "batch_size", "epoch") if key in table]
        np.testing.assert_allclose(table.groupby(keys)["mean"].sum(), 1)
