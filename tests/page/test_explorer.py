"""What a reader does with the page, in a real browser, on two made-up runs of which the second has not finished."""

import io

import numpy as np
import pandas as pd
import pytest

from fishertail.execution.so_far import RunSoFar, make_page
from fishertail.page import of_folder
from tests.page import runs
from tests.page.browser import ARTEFACTS, Opened, needed

pytestmark = [pytest.mark.slow, needed]
FIRST, SECOND = "blobs-fc/bs16/seed0", "blobs-fc/bs16/seed1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def path(folder):
    """A page of two runs; the second has trained for three of four epochs, and has no a_x in its second layer."""
    unfinished = {name: table[table["step"] <= 12] for name, table in runs.tables(1).items()}
    unfinished["spectrum"] = unfinished["spectrum"][unfinished["spectrum"]["layer"] != "second"]
    unfinished["projections"] = unfinished["projections"].drop(columns="second")
    listed = []
    for seed, given in enumerate((runs.tables(0), unfinished)):
        place = runs.write(folder / f"seed{seed}", given)
        files = {"metrics": [f"{place}/metrics.csv"], "trimmed": [f"{place}/trimmed.csv"] * seed}
        run = {"dataset": "blobs", "model": "fc", "batch_size": 16, "seed": seed, "figure_layer": "second"}
        listed.append(RunSoFar(run, [str(place)], 4, files))
    over_runs = {"datasets": [], "figures": [], "claims": [f"{folder}/claims.parquet"]}
    make_page(listed, over_runs, str(folder / "page.html"), settings={}, configuration="seeds: [0, 1]")
    return folder / "page.html"


@pytest.fixture(scope="module")
def opened(browser, path):
    page = Opened(browser, path, viewport={"width": 1100, "height": 900})
    yield page
    page.close()


@pytest.fixture
def page(opened):
    """The page as it opens."""
    opened.page.goto("about:blank")
    opened.page.goto(opened.path.as_uri())
    opened.page.wait_for_selector("body[data-ready]")
    return opened.page


def paths(page, chart):
    marks = f"#chart-{chart} .mark-line path"
    return page.eval_on_selector_all(marks, "all => all.map(path => path.getAttribute('d'))")


def csv(page, chart):
    with page.expect_download() as waiting:
        page.click(f"[data-csv='{chart}']")
    return pd.read_csv(io.BytesIO(waiting.value.path().read_bytes()))


def test_it_opens_on_what_happened_in_the_run(page):
    given = runs.tables(0)
    of_layer = given["spectrum"][given["spectrum"]["layer"] == "second"].reset_index()
    peak = of_layer.loc[of_layer["eigenvalue"].idxmax()]
    items = [item.split("\n") for item in page.locator("#events ol li").all_inner_texts()]
    times = {what: (time, detail) for time, what, detail in (map(str.strip, filter(None, item)) for item in items)}
    assert times["The validation loss is lowest"] == ("epoch 2", "0.5")
    time, detail = times["lambda_1 of second is largest"]
    assert time == f"epoch {peak['epoch']:g}"
    ratio = peak["eigenvalue"] / of_layer["eigenvalue"][0]
    assert detail == f"{peak['eigenvalue']:.4g}, {float(f'{ratio:.2g}'):g} times that at the start"
    assert page.inner_text("#story-title") == "blobs, fc, batch size 16, seed 0"
    page.click("#events button >> text=epoch 2")
    assert page.inner_text("#epoch-shown") == "epoch 2"


def test_growth_is_against_the_first_step_that_was_measured(browser, tmp_path):
    given = runs.tables(0)
    given["spectrum"] = given["spectrum"][given["spectrum"]["step"] >= runs.PER_EPOCH]
    of_folder.write(runs.write(tmp_path / "run", given), tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html")
    values = given["spectrum"][given["spectrum"]["layer"] == "network"]["eigenvalue"].to_numpy()
    assert f"{float(f'{values.max() / values[0]:.2g}'):g} times that after epoch 1" in opened.page.inner_text("#events")
    opened.close()


def test_what_is_still_to_come_is_listed(page):
    assert page.inner_text(".notice") == "This page shows what is there so far; 1 of 2 runs are not finished."
    (line,) = page.locator("#to-come li").all_inner_texts()
    assert line == f"{SECOND}: epoch 3 of 4; files so far: trimmed 0 of 1"


def test_the_data_of_a_chart_are_those_of_the_table(page):
    given, shown = runs.tables(0), csv(page, "spectrum")
    expected = given["spectrum"][given["spectrum"]["layer"] == "second"]
    assert shown["step"].tolist() == list(runs.STEPS)
    assert set(shown["run"]) == {FIRST}
    np.testing.assert_allclose(shown["value"], expected["eigenvalue"], rtol=1e-4)
    bins = csv(page, "histogram")
    a_x = given["projections"].set_index("step").loc[8, "second"]  # the lowest validation loss
    inside = [
        ((a_x >= low) & (a_x < high)).sum() for low, high in zip(bins["bin_left"], bins["bin_right"], strict=True)
    ]
    assert bins["count"].tolist() == inside
    assert sum(inside) == runs.SAMPLES


def test_all_charts_share_an_axis_that_is_logarithmic_or_linear(page):
    def ends(chart):
        """Where the first and the last step are, relative to the last but one."""
        xs = [float(point.split(",")[0]) for point in paths(page, chart)[0].replace("M", "L").split("L")[1:]]
        return (xs[-2] - xs[0]) / (xs[-1] - xs[0])

    page.select_option("#axis", "linear-steps")
    page.wait_for_timeout(200)
    charts = ("spectrum", "train_loss", "outlier-share", "ax_statistics")
    assert [ends(chart) for chart in charts] == pytest.approx([12 / 16] * 4, abs=0.01)
    page.select_option("#axis", "log-steps")
    page.wait_for_timeout(200)
    logarithmic = (np.log10(12) + 0.45) / (np.log10(16) + 0.45)  # step 0 stands 0.45 decades before step 1
    assert [ends(chart) for chart in charts] == pytest.approx([logarithmic] * 4, abs=0.01)


def test_the_address_holds_what_is_chosen(page, opened):
    page.select_option("#layer", "first")
    page.select_option("#second", SECOND)
    page.select_option("#axis", "linear-epochs")
    page.select_option("#shade", "outliers")
    page.focus("#epoch")
    page.keyboard.press("Home")
    page.click("nav >> text=Layers")  # a section, which leaves the state in the address
    address = page.evaluate("location.hash")
    page.goto("about:blank")
    page.goto(opened.path.as_uri() + address)
    page.wait_for_selector("body[data-ready]")
    values = [page.input_value(f"#{name}") for name in ("layer", "second", "axis", "shade")]
    assert values == ["first", SECOND, "linear-epochs", "outliers"]
    assert page.inner_text("#epoch-shown") == "epoch 0, beside it epoch 0"
    page.evaluate("location.hash = 'run=nothing&layer=none&step=x'")
    page.wait_for_timeout(200)
    assert page.input_value("#layer") == "second"
    assert page.input_value("#second") == ""


def test_two_runs_are_shown_on_the_same_axes(page):
    assert len(paths(page, "spectrum")) == 1
    assert page.is_hidden("#box-histogram2")
    page.select_option("#layer", "first")
    page.select_option("#second", SECOND)
    page.wait_for_timeout(300)
    assert len(paths(page, "spectrum")) == 2
    assert set(csv(page, "spectrum")["run"]) == {FIRST, SECOND}
    for name in ("histogram2", "depth2"):
        assert page.eval_on_selector(f"#chart-{name} svg", "svg => svg.getBoundingClientRect().width") > 300
    assert page.inner_text("#title-histogram2") == f"a_x, {SECOND}, epoch 2"
    widths = page.eval_on_selector_all(
        "#chart-histogram svg, #chart-histogram2 svg", "all => all.map(x => x.clientWidth)"
    )
    assert widths[0] == pytest.approx(widths[1], abs=2)
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / "two-runs.png", full_page=True)


def test_what_is_missing_is_said(page):
    page.select_option("#seed", "1")
    page.wait_for_timeout(200)
    assert page.input_value("#layer") == "second"
    assert page.inner_text("#missing-spectrum") == "measured in first, network only"
    assert page.inner_text("#missing-histogram") == "a_x was not measured in second"
    assert page.inner_text("#missing-depth") == "not measured in second"
    assert "lambda_1 was not measured in second." in page.inner_text("#events")
    assert page.is_hidden("#chart-spectrum")


def test_layers_by_time_have_a_cell_for_each_layer_and_checkpoint(page):
    cells = csv(page, "depth")
    assert (
        len(cells)
        == len(runs.LAYERS) * len(runs.STEPS)
        == page.locator("#chart-depth .mark-rect.role-mark path").count()
    )
    expected = runs.tables(0)["spectrum"].set_index(["layer", "step"])["eigenvalue"]
    shades = cells.set_index(["layer", "step"])["shade"]
    np.testing.assert_allclose(10**shades, expected[shades.index], rtol=1e-4)
    texts = page.locator("#chart-depth .role-axis-label text").all_text_contents()
    assert [text for text in texts if text in runs.LAYERS] == list(runs.LAYERS)


def test_samples_stay_among_the_outliers_as_long_as_they_are_listed(page, path):
    listed = runs.shown(path)["runs"][0]["outliers"]
    counts = pd.Series([row[0] for rows in listed.values() for row in rows]).value_counts()
    stays = csv(page, "stays").set_index("sample")["checkpoints"]
    assert stays.to_dict() == counts.to_dict()
    first = page.locator("#stays li").nth(0)
    assert first.locator(".track i").count() == counts.max()
    assert f"{counts.max()} of {len(listed)} checkpoints" in first.inner_text()


def test_outliers_against_fit_are_those_of_all_runs(page, path):
    from scipy.stats import spearmanr

    shown = csv(page, "fit-loss")
    assert len(shown) == 2 * len(runs.STEPS) - 1
    expected = spearmanr(shown["train_loss"], shown["share_of_outliers"]).statistic
    assert runs.shown(path)["fit"]["loss"] == pytest.approx(expected, rel=1e-4)
    assert f"{expected:.3f} with the training loss" in page.inner_text("#fit")


def test_a_click_into_a_chart_chooses_the_nearest_checkpoint(page):
    page.select_option("#axis", "linear-steps")
    page.wait_for_timeout(200)
    page.locator("#chart-train_loss").scroll_into_view_if_needed()
    box = page.locator("#chart-train_loss .mark-line path").bounding_box()
    page.mouse.click(box["x"] + 0.76 * box["width"], box["y"] + box["height"] / 2)
    assert page.inner_text("#epoch-shown") == "epoch 3"


def test_a_phone_dark_and_paper(page):
    page.select_option("#second", SECOND)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1100, "height": 900})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.is_hidden("#seed")
    assert page.is_hidden("#epoch")
    assert page.is_visible("#chart-spectrum")
    page.emulate_media(media="screen", color_scheme="light")
