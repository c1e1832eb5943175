"""The figures: what is drawn is what the table beside it says, the same bytes every time."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fishertail.measurements.measurement import measurements
from fishertail.paper import exhibits
from fishertail.results import drawing, storage
from fishertail.results.exhibits import Results
from tests.paper.made_up_figures import LAYERS_TABLE, SETTINGS, TABLES, results

RECORD = {"rule": "figure", "parameters": {"note": "a (b) < c & d"}, "data": ["abc"], "versions": {}}
FIGURES = {each.rule.partition("_")[0]: each for each in exhibits.figures().values()}
OF_MEASUREMENTS = {figure.name for each in measurements().values() for figure in each.figures}
WRITTEN = [  # those of measurements take the same way to their files as the paper's
    pytest.param(name, marks=pytest.mark.slow if each.name in OF_MEASUREMENTS else ()) for name, each in FIGURES.items()
]


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


def test_a_table_shows_every_cell_to_four_digits():
    figure, _ = draw("table1")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["item", "value", "A", "CPU", "x", "0.1235", "cores", "2", "2e-09"]


@pytest.mark.parametrize("figure", [pytest.param(each, id=each.rule) for each in exhibits.figures().values()])
def test_a_figure_of_what_no_run_has_is_no_error(figure, tmp_path):
    empty = {name: TABLES[name].iloc[:0] for name in figure.needs if name != "metrics"}
    drawn, table = figure.draw(results(**empty))
    drawn.savefig(tmp_path / "figure.png")
    assert isinstance(table, pd.DataFrame)


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


def test_a_checkpoint_that_one_seed_alone_has_is_a_dot_beside_the_means():
    noise = TABLES["noise_scale"]
    figure, table = draw("noise", noise_scale=noise[(noise["seed"] == 0) | (noise["epoch"] != 3)])
    lines = [line for line in figure.axes[0].lines if line.get_label() == "batch size 16"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in lines] == [[1, 5, 20.5, 5000]]
    assert [list(line.get_ydata()) for line in dots] == [[300], [300]]  # of either batch size
    assert set(table.loc[table["epoch"] == 3, "seeds"]) == {1}
