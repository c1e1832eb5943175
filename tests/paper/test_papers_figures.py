"""What the paper's figures show, of made-up tables whose answers are known."""

import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from fishertail.paper import exhibits
from fishertail.paper.figures.fig6_trimmed_eigenvalues import PAPER
from fishertail.paper.printed import PRINTED
from fishertail.results import drawing
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from tests.paper.made_up_figures import (
    HISTOGRAMS,
    METRICS,
    OUTLIERS,
    SETTINGS,
    SHOWN,
    SPECTRA,
    STATISTICS,
    STEPS,
    TABLES,
    TRIMMED,
    at,
    by_run,
    projections,
    results,
    stopped_early,
)

FIGURES = {each.rule.partition("_")[0]: each for each in exhibits.figures().values()}
NAMES = ["fig1", "fig2", "fig4", "fig6", "fig7"]
MINIMUM = {0: 2, 1: 1}  # the epoch of lowest validation loss by seed
OTHERS = {("fc", 16), ("fc", 256), ("conv", 256)}  # networks, where conv at 16 stopped early


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def draw(name, **tables):
    return FIGURES[name].draw(results(**tables))


def position(epoch, first=1.0):
    """Where an epoch is on the axis of time whose first checkpoint after 0 is at `first`."""
    return np.log2(epoch / first) if epoch else -1.5


def lines(axes, label):
    """The lines of a batch size, the first of which is in the legend, as arrays of x and y."""
    first = next(line for line in axes.lines if line.get_label() == label)
    return [
        line.get_xydata().T
        for line in axes.lines
        if line.get_color() == first.get_color() and len(line.get_xdata()) > 2
    ]


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def colours(figure):
    """The colour of each batch size wherever it is drawn."""
    found = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label.startswith("batch size"):
                found.setdefault(label, set()).add(colors.to_hex(handle.get_color()).upper())
    return found


@pytest.mark.parametrize("name", ["fig1", "fig4", "fig7"])
def test_batch_sizes_keep_their_colours(name):
    figure, _ = draw(name)
    assert colours(figure) == {"batch size 16": {"#0072B2"}, "batch size 256": {"#D55E00"}}


def test_a_batch_size_keeps_its_colour_in_another_grid():
    grid = METRICS.assign(batch_size=METRICS["batch_size"].replace({16: 256, 256: 64}))
    found = colours(draw("fig1", metrics=grid)[0])
    assert found["batch size 256"] == {"#D55E00"}
    assert not found["batch size 64"] & {"#D55E00", "#0072B2"}


def test_no_two_batch_sizes_of_an_octave_each_look_alike():
    looks = [drawing.colour_of(2**power) for power in range(13)]
    assert len(set(looks)) == len(looks)


def test_fig_1_draws_the_error_of_each_run_on_a_logarithmic_axis():
    figure, table = draw("fig1")
    axes = panel(figure, "mnist, conv")
    assert axes.get_yscale() == "log"
    of_seed_0, of_seed_1 = lines(axes, "batch size 16")
    np.testing.assert_allclose(of_seed_0[0], [position(epoch) for epoch in range(5)])
    np.testing.assert_allclose(of_seed_0[1], [90, 70, 50, 30, 10])
    np.testing.assert_allclose(of_seed_1[1], [100, 80, 60, 40, 20])
    np.testing.assert_allclose(table["error_percent"], 100 * (1 - table["validation_accuracy"]))


def test_fig_1_marks_where_each_run_ends():
    longer = METRICS[~((METRICS["seed"] == 1) & (METRICS["epoch"] > 3))]
    figure, _ = draw("fig1", metrics=longer)
    dots = [line.get_xydata() for line in panel(figure, "mnist, fc").lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots[0], [[position(4), 10], [position(3), 40]])


def test_fig_1_draws_no_error_below_the_others_and_keeps_it_in_the_table():
    perfect = METRICS.assign(validation_accuracy=METRICS["validation_accuracy"].where(METRICS["epoch"] != 4, 1.0))
    figure, table = draw("fig1", metrics=perfect)
    of_seed_0, _ = lines(panel(figure, "mnist, fc"), "batch size 16")
    np.testing.assert_allclose(of_seed_0[1], [90, 70, 50, 30, 15])
    assert (table.loc[table["epoch"] == 4, "error_percent"] == 0).all()


def histograms_of(figure, batch_size=16):
    """The panel of the histograms of a_x of fc, and its colours; lambda_1 of two networks and theirs come first."""
    axes = figure.axes[2 if batch_size == 16 else 6]
    return axes, axes.collections[0]


def of_fc(table, quantity, batch_size=16):
    return table[(table["quantity"] == quantity) & (table["model"] == "fc") & (table["batch_size"] == batch_size)]


@pytest.mark.parametrize("batch_size", [16, 256])
def test_fig_2_shades_the_shares_of_each_batch_size(batch_size):
    figure, table = draw("fig2")
    assert set(table["batch_size"]) == {16, 256}
    shares = of_fc(table, "share", batch_size).sort_values(["epoch", "bin_left"])
    drawn = histograms_of(figure, batch_size)[1].get_array().filled(0)
    np.testing.assert_array_equal(drawn, shares["mean"].to_numpy().reshape(len(SHOWN), -1).T)
    np.testing.assert_allclose(shares.groupby("step")["mean"].sum(), 1)


def test_fig_2_has_one_bin_around_0():
    _, table = draw("fig2")
    shares = of_fc(table, "share")
    around = shares[(shares["bin_left"] < 0) & (shares["bin_right"] > 0)].set_index("epoch")
    np.testing.assert_allclose(around["bin_right"], 1e-3)
    for epoch in SHOWN:
        near = [np.abs(projections(epoch, ("mnist", "fc", 16, seed))) < 1e-3 for seed in (0, 1)]
        assert around.loc[epoch, "mean"] == pytest.approx(np.mean(near))
    assert around["mean"].max() <= 0.02  # of a hundred samples with a deviation of 16


def test_fig_2_has_a_column_for_each_checkpoint_up_to_the_end_of_training():
    figure, _ = draw("fig2")
    edges = histograms_of(figure)[1].get_coordinates()[0, :, 0]
    centres = np.array([position(epoch, 0.1) for epoch in SHOWN])
    np.testing.assert_allclose(edges[1:-1], (centres[1:] + centres[:-1]) / 2)
    assert edges[-1] == centres[-1]
    assert figure.axes[0].get_xlim() == figure.axes[2].get_xlim() == (edges[0], edges[-1])


def test_fig_2_marks_what_is_near_0():
    for near_zero in (0.1, 0.25):
        settings = SETTINGS | {"measurements.ax_statistics.near_zero": near_zero}
        figure, _ = FIGURES["fig2"].draw(Results(results().runs, TABLES, settings, "mnist"))
        axes, _ = histograms_of(figure)
        heights = {line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1}
        assert heights >= {near_zero, -near_zero}


def test_fig_2_marks_the_minimum_of_each_run():
    figure, table = draw("fig2")
    assert of_fc(table, "lowest_validation_loss").set_index("seed")["epoch"].to_dict() == MINIMUM
    for axes in (figure.axes[0], figure.axes[2]):
        marks = [line for line in axes.lines if line.get_label() == "lowest validation loss of a run"]
        places = sorted(line.get_xdata()[0] for line in marks)
        assert places == pytest.approx([position(1, 0.1), position(2, 0.1)])


def test_fig_2_has_lambda_1_of_each_run_on_top():
    figure, table = draw("fig2")
    of_seed_0, of_seed_1 = lines(figure.axes[0], "batch size 16")
    np.testing.assert_allclose(of_seed_0[1], [0.4, 5, 1, 0.1, 0.01])
    np.testing.assert_allclose(of_seed_1[1], [0.4, 6, 1, 0.1, 0.01])
    np.testing.assert_allclose(of_seed_0[0], [position(epoch, 0.1) for epoch in SHOWN])
    assert (table["quantity"] == "lambda_1").sum() == 2 * 2 * 2 * len(SHOWN)


def test_fig_2_leaves_out_the_batch_sizes_between_the_smallest_and_the_largest():
    more = [dict(run) | {"batch_size": 512} for run in results().runs if run["batch_size"] == 256]
    _, table = FIGURES["fig2"].draw(Results([*results().runs, *more], TABLES, SETTINGS, "mnist"))
    assert set(table["batch_size"]) == {16}  # 512 has no tables yet


def test_a_checkpoint_that_one_seed_alone_has_is_not_beside_means():
    alone = HISTOGRAMS[(HISTOGRAMS["seed"] == 0) | (HISTOGRAMS["epoch"] != 2)]
    figure, table = draw("fig2", ax_histogram=alone)
    assert histograms_of(figure)[1].get_array().shape[1] == len(SHOWN) - 1
    assert set(table.loc[table["quantity"] == "share", "seeds"]) == {2}


def test_a_run_without_checkpoints_inside_epochs_does_not_take_them_from_the_others():
    coarse = HISTOGRAMS[(HISTOGRAMS["seed"] == 0) | (HISTOGRAMS["epoch"] != 0.1)]
    figure, table = draw("fig2", ax_histogram=coarse)
    assert histograms_of(figure)[1].get_array().shape[1] == len(SHOWN)
    assert set(table.loc[table["quantity"] == "share", "seeds"]) == {1}


def test_fig_2_marks_no_minimum_that_is_not_passed():
    figure, _ = draw("fig2", metrics=stopped_early("conv", 16))
    labels = [[line.get_label() for line in axes.lines] for axes in figure.axes[:2]]
    assert ["lowest validation loss of a run" in each for each in labels] == [True, False]


def test_the_tails_of_fig_4_are_those_of_a_x_at_each_runs_minimum():
    _, table = draw("fig4")
    runs = dict(iter(table.groupby(RUN, sort=False)))
    assert len(runs) == 8
    for run, tail in runs.items():
        size = np.abs(projections(float(MINIMUM[run[3]]), run))
        expected = [(size >= threshold).mean() for threshold in tail["threshold"]]
        np.testing.assert_allclose(tail["share"], expected)
        assert (tail.iloc[-1]["threshold"], tail.iloc[-1]["share"]) == (size.max(), 0.01)
        assert set(tail["epoch"]) == {MINIMUM[run[3]]}


def test_fig_4_draws_the_tails_on_logarithmic_axes_with_near_0_marked():
    figure, table = draw("fig4")
    axes = panel(figure, "mnist, fc")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    of_seed_0, _ = lines(axes, "batch size 256")
    shown = table[(table["model"] == "fc") & (table["batch_size"] == 256) & (table["seed"] == 0)]
    np.testing.assert_array_equal(of_seed_0, shown[["threshold", "share"]].to_numpy().T)
    mark = next(line for line in axes.lines if line.get_label() == "$t = 0.1$")
    assert mark.get_xdata()[0] == 0.1
    low, high = axes.get_ylim()
    assert low < shown["share"].min() < shown["share"].max() < high
    assert axes.get_xlim()[0] < 0.1 < shown["threshold"].max() < axes.get_xlim()[1]


def test_fig_4_says_how_many_samples_are_near_0():
    near = STATISTICS.assign(near_zero_share=0.9 + 0.05 * STATISTICS["seed"])
    figure, _ = draw("fig4", ax_statistics=near)
    note = panel(figure, "mnist, fc").texts[0].get_text().splitlines()
    assert note == ["batch size 16: 90.0 to 95.0 % below 0.1", "batch size 256: 90.0 to 95.0 % below 0.1"]


def test_fig_4_leaves_out_and_names_the_runs_that_stopped_early():
    figure, table = draw("fig4", metrics=stopped_early("conv", 16))
    shown = table[table["share"].notna()]
    assert set(shown[["model", "batch_size"]].itertuples(index=False, name=None)) == OTHERS
    assert set(shown["minimum"]) == {"passed"}
    assert table.loc[table["share"].isna(), "minimum"].tolist() == ["stopped early: extend epochs"] * 2
    assert "stopped early" not in panel(figure, "mnist, fc").texts[0].get_text()
    note = panel(figure, "mnist, conv").texts[0].get_text().splitlines()
    assert note[-1] == "batch size 16: 2 of 2 stopped early, not shown"


def test_fig_4_shows_no_untrained_network():
    _, table = draw("fig4", metrics=METRICS[METRICS["epoch"] == 0])
    assert table["share"].isna().all()


def rows(table, model):
    return table[table["model"] == model].set_index("batch_size")


def test_fig_6_is_the_geometric_mean_over_the_seeds_at_their_lowest_loss_in_the_figure_layer():
    more = TRIMMED.assign(layer="fc1", A=99.0)
    _, table = draw("fig6", trimmed=pd.concat([TRIMMED, more]))
    ours = table[table["model"] != PAPER]
    assert ours["layer"].tolist() == ["fc4", "fc2"] * 2
    assert ours["A"].tolist() == pytest.approx([np.sqrt(2 * 1)] * 4)  # seed 0: 2 at epoch 2; seed 1: 1 at epoch 1
    assert ours["decrease_percent"].tolist() == pytest.approx([100 * (1 - 0.5 / np.sqrt(2))] * 4)
    assert ours["decrease_resolved_percent"].tolist() == pytest.approx([100 * (1 - 0.7 / np.sqrt(2))] * 4)
    assert ours["runs"].tolist() == ["2 of 2"] * 4


def test_fig_6_has_the_printed_numbers_above_ours():
    figure, table = draw("fig6")
    assert table["model"].tolist() == [PAPER, "fc", "conv"] * 2
    for batch_size, row in rows(table, PAPER).iterrows():
        printed = PRINTED["mnist", batch_size]
        assert (row["A"], row["B"], row["decrease_percent"]) == (printed.A, printed.B, printed.decrease_percent)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if text in ("0.3659", "1.00e-6", "99.97", "2.063", "0.2182", "90.0")] == [
        "0.3659", "1.00e-6", "99.97", "2.063", "0.2182", "90.0",
    ]  # fmt: skip
    assert {"1.41", "0.500", "64.6"} <= set(texts)
    assert any(text.startswith("mnist, 16: 1e-6 is a decrease of 99.9997 %") for text in texts)


def test_fig_6_has_no_printed_numbers_of_other_data_sets():
    runs = [run | {"dataset": "digits"} for run in results().runs]
    tables = {name: TABLES[name].assign(dataset="digits") for name in ("metrics", "trimmed")}
    _, table = FIGURES["fig6"].draw(Results(runs, tables, {}, None))
    assert PAPER not in set(table["model"])
    assert len(table) == 4


def test_fig_6_counts_only_the_runs_that_passed_their_minimum():
    last = TRIMMED[TRIMMED["epoch"] == 2].assign(step=4 * STEPS, epoch=4.0)
    _, table = draw("fig6", metrics=stopped_early("fc", 256), trimmed=pd.concat([TRIMMED, last]))
    ours = table[table["model"] != PAPER].set_index(["model", "batch_size"])
    early = ours.loc[("fc", 256)]
    assert early["runs"] == "0 of 2"
    assert early[["A", "B", "decrease_percent"]].isna().all()
    assert ours.drop(("fc", 256))["runs"].tolist() == ["2 of 2"] * 3


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        (0.4, "60.0"),
        (0.137, "86.3"),
        (3e-4, "99.97"),
        (3e-8, "99.999997"),
        (0.0, "100.0"),
        (1.0, "0.0"),
        (1.2, "-20.0"),
    ],
)
def test_a_decrease_is_told_from_all(left, shown):
    trimmed = TRIMMED.assign(A=1.0, B=left)
    texts = [text.get_text() for text in draw("fig6", trimmed=trimmed)[0].axes[0].texts]
    assert texts.count(shown) >= 4


def test_fig_7_has_the_share_of_outliers_over_time_relative_to_the_minimum():
    figure, table = draw("fig7")
    of_seed_0, of_seed_1 = lines(panel(figure, "mnist, fc"), "batch size 256")
    counts = np.arange(5) * 256
    np.testing.assert_allclose(of_seed_0[1], 100 * np.maximum(counts, 0.5) / 5000)
    np.testing.assert_allclose(of_seed_1[1], 100 * (counts + 1) / 5000)
    first = 0.5  # the first checkpoint after 0 is half of the time of seed 0's minimum
    np.testing.assert_allclose(of_seed_0[0], [position(epoch / 2, first) for epoch in range(5)])
    np.testing.assert_allclose(of_seed_1[0], [position(epoch / 1, first) for epoch in range(5)])
    shown = table[(table["quantity"] == "share") & (table["batch_size"] == 256) & (table["model"] == "fc")]
    np.testing.assert_array_equal(shown.loc[shown["seed"] == 0, "value"], counts / 5000)
    np.testing.assert_array_equal(shown.loc[shown["seed"] == 0, "time"], np.arange(5) / 2)


def test_in_fig_7_every_line_of_the_loss_is_lowest_at_1():
    figure, table = draw("fig7")
    losses = table[table["quantity"] == "validation_loss"]
    for _, run in losses.groupby(RUN):
        assert run.loc[run["value"].idxmin(), "time"] == 1
    for axes in figure.axes:
        mark = next(line for line in axes.lines if line.get_label() == "lowest validation loss")
        assert mark.get_xdata()[0] == pytest.approx(position(1, 0.5))


def test_fig_7_begins_a_decade_before_outliers_arise():
    """The minima are at epochs 2 and 1, and outliers arise at 4: at 2 and 4 times these; before, one sample is one."""
    late = by_run(lambda *run: {**at(0, 0.1, 1, 2, 4), "outliers_distance": [0, 1, 1, 1, 5000]})
    figure, table = draw("fig7", outliers=late.assign(layer="network", samples=5000))
    drawn = [time for line in lines(panel(figure, "mnist, fc"), "batch size 256") for time in line[0]]
    assert sorted(drawn) == pytest.approx(sorted(position(time, 0.5) for time in (0.5, 1, 2, 1, 2, 4)))
    assert {0, 0.05, 0.1} <= set(table["time"])  # all are in the table


def test_fig_7_leaves_out_and_names_the_runs_that_stopped_early():
    figure, table = draw("fig7", metrics=stopped_early("conv", 16))
    shown = table[table["time"].notna()]
    assert set(shown[["model", "batch_size"]].itertuples(index=False, name=None)) == OTHERS
    assert set(table.loc[table["time"].isna(), "minimum"]) == {"stopped early: extend epochs"}
    drawn = [axes for axes in figure.axes if any(line.get_label() == "batch size 16" for line in axes.lines)]
    assert len(drawn) == 2  # the share and the loss of fc
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert ["batch size 16: 2 of 2 stopped early" in label for label in labels] == [False, True]


EMPTY = {name: TABLES[name].iloc[:0] for name in ("metrics", "outliers", "ax_histogram", "ax_statistics", "trimmed")}
CASES = {
    "nothing at all": EMPTY | {"spectrum": SPECTRA.iloc[:0]},
    "training alone": {name: table for name, table in EMPTY.items() if name != "metrics"},
    "before training": {name: TABLES[name][TABLES[name]["step"] == 0] for name in (*EMPTY, "spectrum")},
    "no lambda_1": {"spectrum": SPECTRA.iloc[:0]},
    "lambda_1 of 0": {
        "spectrum": SPECTRA.assign(eigenvalue=0.0),
        "ax_histogram": HISTOGRAMS.assign(count=100 * ((HISTOGRAMS["bin_left"] < 0) & (HISTOGRAMS["bin_right"] > 0))),
        "ax_statistics": STATISTICS.assign(largest=0.0, near_zero_share=1.0),
        "trimmed": TRIMMED.assign(A=0.0, B=0.0, B_resolved=0.0),
    },
    "no outlier": {"outliers": OUTLIERS.assign(outliers_distance=0)},
    "no statistics": {"ax_statistics": STATISTICS.iloc[:0]},
    "all stopped early": {"metrics": METRICS.assign(validation_loss=2.0 - 0.1 * METRICS["epoch"])},
    "a loss that is no number": {
        "metrics": METRICS.assign(validation_loss=METRICS["validation_loss"].where(METRICS["epoch"] != 4))
    },
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_a_figure_copes_without_a_warning(name, case, tmp_path):
    with warnings.catch_warnings(action="error"):
        figure, table = draw(name, **CASES[case])
        figure.savefig(tmp_path / "figure.png")
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_copes_with_one_run_of_another_data_set(name, tmp_path):
    run, tables = {"dataset": "digits", "model": "fc", "batch_size": 32, "seed": 0}, {}
    for table in FIGURES[name].needs:
        own = TABLES[table].query("model == 'fc' and batch_size == 16 and seed == 0")
        tables[table] = own.assign(dataset="digits", batch_size=32)
    with warnings.catch_warnings(action="error"):
        figure, table = FIGURES[name].draw(Results([run | {"figure_layer": "fc4"}], tables, SETTINGS, "digits"))
        figure.savefig(tmp_path / "figure.png")
    assert set(table["batch_size"]) == {32}
