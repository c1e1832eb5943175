"""The page of a finished workflow in a real browser."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fishertail.results import storage
from tests.page.browser import ARTEFACTS, Opened, needed

pytestmark = [pytest.mark.workflow, needed]


@pytest.fixture(scope="module")
def path(finished_once) -> Path:
    return finished_once.path / "results/report/index.html"


@pytest.fixture
def opened(browser, path):
    page = Opened(browser, path, viewport={"width": 1100, "height": 900})
    yield page
    page.close()


def test_the_slider_moves_the_histogram_by_keyboard(opened):
    opened.page.focus("#epoch")
    opened.page.keyboard.press("Home")
    opened.settle()
    first, bars = opened.epoch(), opened.bars()
    assert first == "epoch 0"
    assert len(bars) > 3
    opened.page.keyboard.press("ArrowRight")
    opened.settle()
    assert opened.epoch() == "step 1 (epoch 0.167)"
    assert opened.bars() != bars
    opened.page.keyboard.press("ArrowLeft")
    opened.settle()
    assert opened.bars() == bars


def test_what_is_shown_is_what_the_tables_say(opened, finished_once):
    run = finished_once.path / "results/runs/digits-fc/bs256/seed0"
    opened.page.focus("#epoch")
    opened.page.keyboard.press("End")
    opened.settle()
    facts = opened.page.inner_text("#facts")
    metrics = storage.read_table(run / "metrics.csv").iloc[-1]
    outliers = storage.read_table(run / "outliers.csv")
    count = outliers[(outliers["layer"] == "fc4") & (outliers["step"] == 24)]["outliers_distance"].item()
    assert f"{count} of 1,437" in facts
    assert f"{metrics['validation_loss']:.4g}" in facts
    assert f"{100 * metrics['validation_accuracy']:.2f} %" in facts


def test_the_outliers_are_shown_with_label_loss_and_norm(opened, finished_once):
    samples = storage.read_table(finished_once.path / "results/runs/digits-fc/bs256/seed0/outlier_samples.csv")
    shown = samples[samples["step"] == 0]
    opened.page.focus("#epoch")
    opened.page.keyboard.press("Home")
    opened.settle()
    items = opened.page.locator("#samples li")
    assert items.count() == len(shown)
    assert len(shown)
    assert items.nth(0).inner_text().startswith(str(shown.iloc[0]["label"]))
    width = "async image => { await image.decode(); return image.naturalWidth }"
    assert opened.page.eval_on_selector("#samples img", width) == 8


def test_every_choice_of_a_layer_draws(opened):
    layers = opened.page.eval_on_selector_all("#layer option", "options => options.map(option => option.value)")
    assert {"fc1", "fc4", "network"} <= set(layers)
    seen = set()
    for layer in layers:
        opened.page.select_option("#layer", layer)
        opened.settle()
        seen.add(json.dumps(opened.bars()))
    assert len(seen) == len(layers)


def test_claims_figures_and_tables_are_there(opened, finished_once):
    judged = storage.read_table(finished_once.path / "results/tables/claims.parquet")
    assert opened.page.locator("#claims h3 .verdict").count() == len(judged) >= 5
    effects = storage.read_table(finished_once.path / "results/tables/claim_effects.parquet")
    assert opened.page.locator("#claims .forest tbody tr").count() == len(effects)
    with opened.page.expect_download() as waiting:
        opened.page.click("[data-csv='claim4-1']")
    fourth = effects[effects["claim"] == 4]
    shown = fourth[fourth["quantity"] == fourth["quantity"].iloc[0]].reset_index(drop=True)
    downloaded = pd.read_csv(
        waiting.value.path(), keep_default_na=False, na_values={"effect": "", "low": "", "high": "", "p": ""}
    )
    pd.testing.assert_frame_equal(downloaded.astype({"batch_size": str}), shown, check_dtype=False)
    each = "for (const x of all) { x.loading = 'eager'; await x.decode() }"
    decode = f"async all => {{ {each} return all.map(x => x.naturalWidth) }}"
    sizes = opened.page.eval_on_selector_all("#figures img", decode)
    assert len(sizes) == 7
    assert min(sizes) > 100
    assert opened.page.locator("#tables table").count() == 3
    ARTEFACTS.mkdir(exist_ok=True)
    opened.page.screenshot(path=ARTEFACTS / "page.png", full_page=True)


def test_no_label_of_a_chart_is_cut_off(opened):
    outside = opened.page.evaluate("""() => [...document.querySelectorAll('.chart svg')].flatMap(svg => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
        }).map(text => text.textContent);
    })""")
    assert outside == []


def test_a_phone_needs_no_sideways_scrolling(browser, path):
    page = Opened(browser, path, viewport={"width": 390, "height": 844}, is_mobile=True, device_scale_factor=2)
    wide = page.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    ARTEFACTS.mkdir(exist_ok=True)
    page.page.screenshot(path=ARTEFACTS / "phone.png", full_page=True)
    page.close()


def test_its_size(path):
    assert path.stat().st_size < 8e6
