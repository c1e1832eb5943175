"""The figures: what is drawn is what the table beside it says, the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest

from fishertail import figures, histograms, storage

RECORD = {"rule": "figure", "parameters": {}, "data": ["abc"], "versions": {}}
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
MINIMA = by_run(lambda d, m, b, s: {"epoch": [2]})


def histogram(epoch, run):
    a_x = np.random.default_rng(epoch + run[3]).normal(size=100) * run[2]
    counts = {"bin_left": EDGES[:-1], "bin_right": EDGES[1:], "count": histograms.histogram(a_x, EDGES)}
    return pd.DataFrame({"epoch": epoch, **counts})


HISTOGRAMS = by_run(lambda *run: pd.concat([histogram(epoch, run) for epoch in (0, 1, 4)]))
TABLE = pd.DataFrame({"item": ["CPU", "cores"], "value": ["x", "2"], "A": [0.123456, 2e-9]})
DRAWINGS = {
    "fig1": (figures.validation_accuracy, METRICS),
    "fig2": (figures.ax_over_epochs, HISTOGRAMS, MINIMA, 16),
    "fig4": (figures.ax_at_minimum, HISTOGRAMS[HISTOGRAMS["epoch"] == 1]),
    "fig6": (figures.table_figure, TABLE),
    "fig7": (figures.outlier_curves, OUTLIERS, METRICS, "distance"),
}


def write(folder, draw, *arguments):
    folder.mkdir()
    paths = [str(folder / f"figure.{suffix}") for suffix in ("svg", "pdf", "csv")]
    figures.write(draw, *paths, RECORD, *arguments)
    return [open(path, "rb").read() for path in paths]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_drawn_the_same_twice_and_carries_its_provenance(tmp_path, name):
    first, second = (write(tmp_path / str(i), *DRAWINGS[name]) for i in range(2))
    assert first == second
    svg, pdf, _ = first
    assert json.dumps(RECORD).replace('"', "&quot;") in svg.decode() or json.dumps(RECORD) in svg.decode()
    assert pdf.startswith(b"%PDF")
    assert len(storage.read_table(tmp_path / "0" / "figure.csv"))


def test_seeds_become_a_mean_and_a_band():
    _, table = figures.validation_accuracy(METRICS)
    row = table[(table["model"] == "fc") & (table["batch_size"] == 16) & (table["epoch"] == 4)].iloc[0]
    assert [row["mean"], row["lowest"], row["highest"]] == pytest.approx([0.85, 0.8, 0.9])
    assert row["seeds"] == 2


@pytest.mark.parametrize("name", ["fig1", "fig7"])
def test_batch_sizes_keep_their_colours(name):
    draw, *arguments = DRAWINGS[name]
    figure, _ = draw(*arguments)
    colours = {line.get_label(): line.get_color() for axes in figure.axes for line in axes.lines}
    assert colours["batch size 16"] == "#0072B2"
    assert colours["batch size 256"] == "#D55E00"


def test_the_curve_of_fig_7_is_the_table():
    figure, table = figures.outlier_curves(OUTLIERS, METRICS, "distance")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "batch size 256")
    shown = table[(table["quantity"] == "outliers") & (table["model"] == "fc") & (table["batch_size"] == 256)]
    np.testing.assert_array_equal(line.get_ydata(), shown["mean"])
    np.testing.assert_array_equal(shown["mean"], np.arange(5) * 256 + 0.5)


def test_shares_add_up_to_one():
    for name in ("fig2", "fig4"):
        draw, *arguments = DRAWINGS[name]
        _, table = draw(*arguments)
        keys = [key for key in ("model", "batch_size", "epoch") if key in table]
        np.testing.assert_allclose(table.groupby(keys)["mean"].sum(), 1)
