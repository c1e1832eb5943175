"""The figures: what is drawn is what the table beside it says, the same bytes every time."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from fishertail.measurements.measurement import measurements
from fishertail.paper import exhibits
from fishertail.results import drawing, storage
from fishertail.results.exhibits import Results
from fishertail.results.schema import RUN
from fishertail.statistics.ax import bin_edges
from fishertail.statistics.ax import histogram as counts_of

RECORD = {"rule": "figure", "parameters": {"note": "a (b) < c & d"}, "data": ["abc"], "versions": {}}
RUNS = [("mnist", model, batch_size, seed) for model in ("fc", "conv") for batch_size in (16, 256) for seed in (0, 1)]
EDGES = bin_edges()
STEPS = 10  # of an epoch
LAYERS = {"fc": "fc4", "conv": "fc2"}
SETTINGS = {"measurements.outliers.reading": "distance"}


def at(*epochs):
    return {"step": [int(STEPS * epoch) for epoch in epochs], "epoch": [float(epoch) for epoch in epochs]}


def by_run(rows):
    parts = [
        pd.DataFrame(rows(*run)).assign(dataset=run[0], model=run[1], batch_size=run[2], seed=run[3]) for run in RUNS
    ]
    return pd.concat(parts, ignore_index=True)


METRICS = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "validation_accuracy": np.linspace(0.1, 0.9, 5) - 0.1 * s,
        "validation_loss": [2.3, 1.0, 0.5 + s, 0.7 + s, 0.9 + s],
        "train_accuracy": np.linspace(0.1, 1, 5),
        "train_loss": [2.3, 1.0, 0.5, 0.2, 0.1],
    }
)
OUTLIERS = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "layer": "network",
        "outliers_distance": np.arange(5) * b + s,
        "outliers_norm": 9,
        "samples": 5000,
    }
)
LAYERS_TABLE = by_run(
    lambda d, m, b, s: pd.concat(
        [
            pd.DataFrame({**at(0, 1, 2, 4), "layer": layer, "depth": depth})
            for depth, layer in enumerate(("first", LAYERS[m]), 1)
        ]
    ).assign(lambda_1=[1.0, 20, 3, 0.1, 0, 30, 4, 0.2], near_zero_share=0.3, outlier_share=0.1, decrease_percent=70.0)
)
NOISE = by_run(lambda d, m, b, s: {**at(*range(5)), "layer": LAYERS[m], "noise_scale": [1.0, 5, 20 + s, 300, 5000]})
ALIGNMENT = by_run(
    lambda d, m, b, s: {
        **at(*range(5)),
        "layer": "network",
        "leading_share": [np.nan, 0.2, 0.1, 0.01 + 0.01 * s, 0.001],
    }
)
EIGENVALUES = by_run(lambda d, m, b, s: {**at(0, 2), "layer": "network", "rate": [1.0, 5.0 + s]})
HESSIAN = by_run(
    lambda d, m, b, s: {**at(0, 2), "layer": "network", "rank": 1, "rate_times_eigenvalue": [0.5, 1.5 + s]}
)
TRUE_FISHER = by_run(lambda d, m, b, s: {**at(1, 2), "layer": LAYERS[m], "rank": 1, "ratio": [0.9, 20.0 + s]})
DEVIATIONS = by_run(
    lambda d, m, b, s: {**at(2, 2), "layer": LAYERS[m], "share": [0.1, 0.5], "rms": [0.3 + s, 0.1], "gaussian": 0.04}
)
LEFT_OUT = by_run(
    lambda d, m, b, s: {
        **at(*[2] * 6),
        "layer": LAYERS[m],
        "kind": ["without at random", "without by a_x", "without by norm"] * 2,
        "share": np.repeat([0.1, 0.5], 3),
        "ratio": [1.0, 0.1, 0.2, 0.9, 0.01, 0.02 + s],
    }
)
SAMPLES = by_run(
    lambda d, m, b, s: {
        "sample": range(4),
        "label": 0,
        **{name: [4.0, 3, 2, 1 + s] for name in ("grand", "el2n", "loss", "a_x")},
        "first_outlier": [-1, 0, 10, 20],
        "longest_stretch": [0, 0, 20, 20],
    }
)
TRIMMED = by_run(
    lambda d, m, b, s: {
        **at(1, 2),
        "layer": LAYERS[m],
        "A": [1.0, 2.0 + s],
        "B": 0.5,
        "decrease_percent": [50, 75],
        "B_resolved": 0.7,
        "decrease_resolved_percent": [30, 65],
    }
)


def histogram(epoch, run):
    a_x = np.random.default_rng(int(STEPS * epoch) + run[3]).normal(size=100) * run[2]
    counts = {"bin_left": EDGES[:-1], "bin_right": EDGES[1:], "count": counts_of(a_x, EDGES)}
    return pd.DataFrame({"step": int(STEPS * epoch), "epoch": epoch, "layer": LAYERS[run[1]], **counts})


SHOWN = (0, 0.1, 1, 2, 4)  # epochs with a histogram
HISTOGRAMS = by_run(lambda *run: pd.concat([histogram(float(epoch), run) for epoch in SHOWN]))
TABLE = pd.DataFrame({"item": ["CPU", "cores"], "value": ["x", "2"], "A": [0.123456, 2e-9]})
TABLES = {"metrics": METRICS, "outliers": OUTLIERS, "ax_histogram": HISTOGRAMS, "trimmed": TRIMMED}
TABLES |= {"table1_machine": TABLE, "layers": LAYERS_TABLE, "noise_scale": NOISE, "alignment": ALIGNMENT}
TABLES |= {
    "true_fisher": TRUE_FISHER,
    "subset_deviations": DEVIATIONS,
    "data_sensitivity": LEFT_OUT,
    "samples": SAMPLES,
}
TABLES |= {"samples": SAMPLES, "eigenvalue_statistics": EIGENVALUES, "hessian": HESSIAN}
FIGURES = {each.rule.partition("_")[0]: each for each in exhibits.figures().values()}
OF_MEASUREMENTS = {figure.name for each in measurements().values() for figure in each.figures}
WRITTEN = [  # those of measurements take the same way to their files as the paper's
    pytest.param(name, marks=pytest.mark.slow if each.name in OF_MEASUREMENTS else ()) for name, each in FIGURES.items()
]


def results(**tables) -> Results:
    runs = [{**dict(zip(RUN, run, strict=True)), "figure_layer": LAYERS[run[1]]} for run in RUNS]
    return Results(runs, TABLES | tables, SETTINGS, "mnist")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def draw(name, **tables):
    return FIGURES[name].draw(results(**tables))


def provenance_of_svg(content):
    return json.loads(ElementTree.fromstring(content).find(".//{http://purl.org/dc/elements/1.1/}description").text)


def provenance_of_pdf(content):
    literal = re.search(rb"/Subject \(((?:[^()\\]|\\.)*)\)", content)[1]
    return json.loads(re.sub(rb"\\(.)", rb"\1", literal))


def write(folder, name):
    paths = {suffix: str(folder / f"figure.{suffix}") for suffix in ("svg", "pdf", "csv")}
    drawing.write(FIGURES[name].draw, paths, RECORD, results())
    return [open(path, "rb").read() for path in paths.values()]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_figure_is_drawn_the_same_twice_and_carries_its_provenance(tmp_path, name):
    first, second = (write(tmp_path / str(i), name) for i in range(2))
    assert first == second
    svg, pdf, _ = first
    assert provenance_of_svg(svg) == provenance_of_pdf(pdf) == RECORD
    assert storage.read_provenance(tmp_path / "0" / "figure.csv").items() >= RECORD.items()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_csv_holds_what_is_drawn(tmp_path, name):
    write(tmp_path, name)
    _, table = draw(name)
    found = storage.read_table(tmp_path / "figure.csv")
    pd.testing.assert_frame_equal(found, table.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_takes_the_tables_and_settings_that_it_names(name):
    each = FIGURES[name]
    needed = {table: TABLES[table] for table in each.needs}
    each.draw(Results(results().runs, needed, {key: SETTINGS[key] for key in each.settings}, "mnist"))
    assert each.caption.endswith(".")


def test_the_papers_figures_are_there():
    papers = [each for name, each in exhibits.figures().items() if name not in OF_MEASUREMENTS]
    stems = {figure.stem("mnist") for figure in papers}
    assert stems == {
        "fig1_validation_accuracy",
        "fig3_ax_over_epochs_mnist",
        "fig5_ax_at_minimum_mnist",
        "fig6_trimmed_eigenvalues",
        "fig7_outliers",
        "table1_machine",
    }
    assert {figure.stem("cifar10")[:4] for figure in papers if figure.by_dataset} == {"fig2", "fig4"}


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
    found = colours(draw("fig1", metrics=grid)[0])
    assert found["batch size 256"] == {"#D55E00"}
    assert not found["batch size 64"] & {"#D55E00", "#0072B2"}


def test_fig_1_draws_the_means_in_percent():
    figure, table = draw("fig1")
    line = next(line for line in figure.axes[1].lines if line.get_label() == "batch size 16")
    shown = table[(table["model"] == "conv") & (table["batch_size"] == 16)]
    np.testing.assert_allclose(line.get_ydata(), 100 * shown["mean"])
    np.testing.assert_array_equal(line.get_xdata(), shown["epoch"])


def position(epoch):
    """Where an epoch is on the logarithmic axis, whose first after 0 is at a tenth of an epoch."""
    return np.log2(epoch / 0.1) if epoch else -1.5


def test_fig_2_shades_the_shares_of_its_batch_size_and_marks_the_lowest_loss():
    figure, table = draw("fig2")
    assert set(table["batch_size"]) == {16}
    mesh = figure.axes[0].collections[0]
    shown = table[table["model"] == "fc"].sort_values(["epoch", "bin_left"])["mean"].to_numpy()
    np.testing.assert_array_equal(mesh.get_array().filled(0), shown.reshape(len(SHOWN), -1).T)
    places = [x for line in figure.axes[0].lines for x in line.get_xdata()]
    # seed 0 is lowest at epoch 2, seed 1 at epoch 1
    assert places == pytest.approx([position(1.5)] * 4)


def test_fig_2_has_a_column_for_each_checkpoint_on_a_logarithmic_axis_of_time():
    figure, _ = draw("fig2")
    edges = figure.axes[0].collections[0].get_coordinates()[0, :, 0]
    centres = [position(epoch) for epoch in SHOWN]
    np.testing.assert_allclose(edges[1:-1], (np.array(centres[1:]) + centres[:-1]) / 2)
    figure.canvas.draw()
    ticks = dict(
        zip(figure.axes[0].get_xticks(), (t.get_text() for t in figure.axes[0].get_xticklabels()), strict=True)
    )
    assert {text: place for place, text in ticks.items()} == {
        "0": -1.5,
        "0.1": 0,
        "1": pytest.approx(position(1)),
    }


def test_a_checkpoint_that_one_seed_alone_has_is_not_beside_means():
    alone = HISTOGRAMS[(HISTOGRAMS["seed"] == 0) | (HISTOGRAMS["epoch"] != 2)]
    figure, _ = draw("fig2", ax_histogram=alone)
    assert figure.axes[0].collections[0].get_array().shape[1] == len(SHOWN) - 1


def stopped_early(model, batch_size):
    """METRICS in which the runs of a network stop while their validation loss falls."""
    metrics = METRICS.copy()
    early = (metrics["model"] == model) & (metrics["batch_size"] == batch_size)
    metrics.loc[early, "validation_loss"] = 2.0 - 0.1 * metrics["epoch"]
    return metrics


def test_a_minimum_that_is_not_passed_is_not_marked_and_named_where_it_is_used():
    metrics = stopped_early("conv", 16)
    over_epochs, _ = draw("fig2", metrics=metrics)
    assert [bool(axes.lines) for axes in over_epochs.axes[:2]] == [True, False]
    at_minimum, table = draw("fig4", metrics=metrics)
    notes = [[text.get_text() for text in axes.texts] for axes in at_minimum.axes]
    assert notes == [[], ["16: lowest loss passed in 0 of 2"]]
    early = table[table["seeds_past_minimum"] == 0][["model", "batch_size"]]
    assert set(early.itertuples(index=False, name=None)) == {("conv", 16)}
    curves, _ = draw("fig7", metrics=metrics)
    marks = [sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":") for axes in curves.axes]
    mean = pytest.approx(
        np.log2(1.5)
    )  # the seeds' minima are after epochs 1 and 2; the axis has octaves from epoch 1 on
    assert marks == [[mean, mean], [mean], [mean, mean], [mean]]


def test_no_minimum_passed_at_all_is_drawn_without_a_legend():
    metrics = METRICS.assign(validation_loss=2.0 - 0.1 * METRICS["epoch"])
    figure, _ = draw("fig2", metrics=metrics)
    assert not figure.legends


def test_fig_4_draws_the_shares_of_each_bin():
    figure, table = draw("fig4")
    stairs = next(patch for patch in figure.axes[0].patches if patch.get_label() == "batch size 256")
    shown = table[(table["model"] == "fc") & (table["batch_size"] == 256)]
    np.testing.assert_array_equal(stairs.get_data().values, shown["mean"])


def test_fig_4_is_of_each_runs_lowest_validation_loss():
    _, table = draw("fig4")
    shown = table[(table["model"] == "fc") & (table["batch_size"] == 16)].set_index("bin_left")["mean"]
    chosen = HISTOGRAMS[(HISTOGRAMS["model"] == "fc") & (HISTOGRAMS["batch_size"] == 16)]
    lowest = chosen[chosen["epoch"] == np.where(chosen["seed"] == 0, 2, 1)]
    np.testing.assert_allclose(shown, lowest.groupby("bin_left")["count"].sum().loc[shown.index] / 200)


def test_a_table_shows_every_cell_to_four_digits():
    figure, _ = draw("table1")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["item", "value", "A", "CPU", "x", "0.1235", "cores", "2", "2e-09"]


def test_fig_6_is_the_mean_over_the_seeds_at_their_lowest_loss_in_the_figure_layer():
    more = TRIMMED.assign(layer="fc1", A=99.0)
    _, table = draw("fig6", trimmed=pd.concat([TRIMMED, more]))
    assert list(table.columns[:4]) == ["dataset", "model", "layer", "batch_size"]
    assert table["layer"].tolist() == ["fc4", "fc4", "fc2", "fc2"]
    assert table["A"].tolist() == pytest.approx([1.5] * 4)  # seed 0: 2 at epoch 2; seed 1: 1 at epoch 1
    assert table["decrease_percent"].tolist() == pytest.approx([62.5] * 4)
    assert table["minimum_passed"].tolist() == ["2 of 2"] * 4


def test_fig_6_counts_the_runs_that_passed_their_minimum():
    last = TRIMMED[TRIMMED["epoch"] == 2].assign(step=4 * STEPS, epoch=4.0)
    _, table = draw("fig6", metrics=stopped_early("fc", 256), trimmed=pd.concat([TRIMMED, last]))
    passed = table.set_index(["model", "batch_size"])["minimum_passed"]
    assert passed.pop(("fc", 256)) == "0 of 2"
    assert passed.tolist() == ["2 of 2"] * 3


def test_the_curve_of_fig_7_is_the_table():
    figure, table = draw("fig7")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "batch size 256")
    shown = table[(table["quantity"] == "outliers") & (table["model"] == "fc") & (table["batch_size"] == 256)]
    np.testing.assert_array_equal(line.get_ydata(), shown["mean"])
    np.testing.assert_array_equal(shown["mean"], np.arange(5) * 256 + 0.5)


def test_shares_add_up_to_one():
    for name in ("fig2", "fig4"):
        _, table = draw(name)
        keys = [key for key in ("model", "batch_size", "step") if key in table]
        np.testing.assert_allclose(table.groupby(keys)["mean"].sum(), 1)


def test_layers_are_drawn_by_depth_and_time():
    figure, table = draw("layers")
    first = figure.axes[0]  # lambda_1 of fc at batch size 16
    shown = first.collections[0].get_array().filled(0)
    np.testing.assert_allclose(shown, [[1.0, 20, 3, 0.1], [0, 30, 4, 0.2]])
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["first", "fc4"]
    assert set(table["seeds"]) == {2}


def test_layers_without_a_decrease_leave_its_column_out():
    figure, _ = draw("layers", layers=LAYERS_TABLE.assign(decrease_percent=np.nan))
    assert len(figure.axes) == 3 * (4 + 1)  # columns of networks, each with its scale


def test_the_noise_scale_stands_beside_the_batch_sizes():
    figure, table = draw("noise")
    drawn = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert drawn == [16, 256]
    assert table.loc[(table["model"] == "fc") & (table["epoch"] == 2), "mean"].tolist() == [20.5, 20.5]
