"""RunAnalysis: what it draws is what its tables hold, it is read as it was written, and it shows itself."""

import importlib
import re
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import fishertail
from fishertail.errors import NodeError, StorageError
from fishertail.execution import run_analysis, run_summary, saved_tables
from fishertail.execution.chosen import FAILURES
from fishertail.execution.command_line import cli
from fishertail.measurements.measurement import measurements
from tests.page.runs import shown

STEPS = [0, 1, 5, 90]
MEASURED = ["norms", "spectrum", "outliers", "ax_statistics", "ax_histogram"]


@cache
def analysis() -> fishertail.RunAnalysis:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    checkpoints = {s: {name: t * (1 + s / 30) for name, t in model.state_dict().items()} for s in STEPS}
    images, labels = torch.randn(30, 6), torch.arange(30) % 3
    return fishertail.analyse_run(
        model,
        checkpoints,
        images,
        labels,
        steps_per_epoch=10,
        measurements=MEASURED,
        threshold=2,
        device="cpu",
        threads=1,
    )


def lines(figure, panel: int = 0) -> dict[str, np.ndarray]:
    """(2, n) steps and values by layer."""
    return {line.get_label(): np.array(line.get_data()) for line in figure.axes[panel].lines}


def test_a_panel_is_drawn_as_it_says():
    figure = analysis().plot("spectrum")
    drawn = lines(figure)
    assert list(drawn) == ["0", "2", "network"]
    for layer, points in drawn.items():
        rows = analysis().spectrum[analysis().spectrum["layer"] == layer]
        assert points.tolist() == [STEPS, rows["eigenvalue"].tolist()]
    (axes,) = figure.axes
    assert (axes.get_yscale(), axes.get_ylabel(), axes.get_xlabel()) == ("log", "lambda_1", "SGD step")
    assert figure.legends[0].get_texts()[0].get_text() == "0"
    assert analysis().plot("outliers").axes[0].get_yscale() == "linear"


def test_only_the_rank_that_the_panel_shows():
    spectrum = analysis().spectrum
    two = pd.concat([spectrum, spectrum.assign(rank=2, eigenvalue=-1.0)])
    drawn = lines(fishertail.RunAnalysis({"spectrum": two}).plot("spectrum"))
    assert all((values > 0).all() for _, values in drawn.values())


def test_layers_are_chosen():
    assert list(lines(analysis().plot("outliers", layers=["network"]))) == ["network"]
    with pytest.raises(ValueError, match="layers: among 0, 2, network expected, found '7'"):
        analysis().plot("outliers", layers=["7"])


def test_of_what_holds_each_sample_the_median_is_drawn():
    drawn = lines(analysis().plot("norms"))
    for layer, (steps, values) in drawn.items():
        truth = [np.median(analysis().norms.query("step == @step")[layer]) for step in steps]
        assert np.allclose(values, truth, rtol=1e-6)


@pytest.fixture
def no_panels(monkeypatch):
    """As if no measurement had a panel."""
    plain = {name: replace(each, panel=None) for name, each in measurements().items()}
    monkeypatch.setattr(run_analysis, "measurements", lambda: plain)


def test_without_a_panel_every_column_that_changes_is_drawn(no_panels):
    figure = analysis().plot("ax_statistics")
    table = analysis().tables["ax_statistics"]
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert "near zero share" in titles
    rows = table.query("layer == 'network'")
    assert lines(figure, titles.index("largest"))["network"][1].tolist() == rows["largest"].tolist()


def test_what_differs_between_layers_alone_is_not_drawn(no_panels):
    table = analysis().tables["ax_statistics"]
    depth = table["layer"].map({"0": 1, "2": 2, "network": 3})
    figure = fishertail.RunAnalysis({"ax_statistics": table.assign(depth=depth)}).plot("ax_statistics")
    assert "depth" not in [axes.get_ylabel() for axes in figure.axes]


def test_an_unknown_name_lists_those_that_can_be_drawn():
    with pytest.raises(ValueError, match=r"among norms, outliers, spectrum, ax_statistics expected, found 'lambda'"):
        analysis().plot("lambda")
    with pytest.raises(ValueError, match="found 'ax_histogram'"):  # several rows for a step and layer
        analysis().plot("ax_histogram")
    with pytest.raises(ValueError, match="among no measurement expected"):
        fishertail.RunAnalysis({}).plot("spectrum")


def test_a_table_of_outliers_alone_has_no_median():
    rows = pd.DataFrame({"step": [0, 0, 1], "epoch": 0.0, "sample": [1, 2, 1], "label": 0, "rank": 1, "network": 3.0})
    with pytest.raises(ValueError, match="among no measurement"):
        fishertail.RunAnalysis({"outlier_samples": rows}).plot("outlier_samples")


def test_degenerate_runs_are_drawn():
    """One checkpoint, step 0, all gradients 0: nothing positive for a logarithmic axis."""
    dead = analysis().spectrum.query("step == 0").assign(eigenvalue=0.0)
    figure = fishertail.RunAnalysis({"spectrum": dead}).plot("spectrum")
    figure.canvas.draw()
    assert figure.axes[0].get_yscale() == "linear"


def test_many_layers_have_a_short_legend():
    one = analysis().spectrum.query("layer == 'network'")
    many = pd.concat([one.assign(layer=f"layer{i}") for i in range(40)] + [one])
    figure = fishertail.RunAnalysis({"spectrum": many}).plot("spectrum")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["layer0", "layer39", "network"]
    colours = {line.get_color() for line in figure.axes[0].lines}
    assert len(colours) == 41


def test_a_layer_whose_name_begins_with_an_underscore_is_named():
    one = analysis().spectrum.query("layer == 'network'")
    figure = fishertail.RunAnalysis({"spectrum": pd.concat([one.assign(layer="_fc"), one])}).plot("spectrum")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_fc", "network"]


def test_a_figure_leaves_the_users_matplotlib_as_it_was():
    plt = pytest.importorskip("matplotlib.pyplot")
    before, style = plt.get_fignums(), dict(plt.rcParams)
    analysis().plot("spectrum")
    assert plt.get_fignums() == before
    assert dict(plt.rcParams) == style


def test_without_matplotlib_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "fishertail.results.curves", raising=False)
    monkeypatch.delattr("fishertail.results.curves", raising=False)
    with pytest.raises(ImportError, match="plot: matplotlib expected, which is not installed"):
        analysis().plot("spectrum")
    assert "<svg" not in analysis()._repr_html_()
    assert "lambda_1" in analysis()._repr_html_()


@pytest.mark.parametrize("package", ["altair", "jinja2", "PIL", "vl_convert"])
def test_without_a_package_of_the_page_a_sentence_says_so(package, tmp_path, monkeypatch, capsys):
    analysis().save(tmp_path / "run")
    for name in ("charts", "data", "of_folder", "render"):
        monkeypatch.delitem(sys.modules, f"fishertail.page.{name}", raising=False)
        monkeypatch.delattr(f"fishertail.page.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    sentence = f"page: {package} expected, which is not installed: pip install altair jinja2 pillow vl-convert-python"
    with pytest.raises(NodeError, match=sentence):
        analysis().page(tmp_path / "page.html")
    assert cli.main(["page", str(tmp_path / "run")]) == cli.WRONG
    assert capsys.readouterr().err == f"fishertail: error: {sentence}\n"


def test_what_is_saved_is_read_again(tmp_path):
    analysis().save(tmp_path / "run")
    found = fishertail.RunAnalysis.load(tmp_path / "run")
    assert found.tables.keys() == analysis().tables.keys()
    for name, table in analysis().tables.items():
        if name == "eigenvectors":
            assert all(torch.equal(found.eigenvectors[key], tensor) for key, tensor in table.items())
        else:
            pd.testing.assert_frame_equal(found.tables[name], table, check_dtype=False, check_exact=True)
    analysis().save(tmp_path / "run")
    with pytest.raises(StorageError, match=r"norms\.parquet: a folder without tables of other runs expected"):
        fishertail.RunAnalysis({"spectrum": analysis().spectrum}).save(tmp_path / "run")


def test_a_model_that_is_one_layer_keeps_its_empty_name(tmp_path):
    model, data = nn.Linear(64, 10), load_digits()
    images, labels = torch.tensor(data.data[:40] / 16, dtype=torch.float32), torch.tensor(data.target[:40])
    checkpoints = {step: {name: t * (1 + step) for name, t in model.state_dict().items()} for step in (0, 3)}
    chosen = ["spectrum", "outliers", "outlier_samples"]
    made = fishertail.analyse_run(
        model, checkpoints, images, labels, threshold=1, measurements=chosen, device="cpu", threads=1
    )
    made.save(tmp_path / "run")
    found = fishertail.RunAnalysis.load(tmp_path / "run")
    assert found.spectrum["layer"].tolist() == ["", "network"] * 2
    assert list(found.tables["outlier_samples"].columns[-2:]) == ["", "network"]
    figure = found.plot("spectrum")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["(model)", "network"]
    found.page(tmp_path / "page.html")
    (run,) = shown(tmp_path / "page.html")["runs"]
    assert list(run["layers"]) == ["(model)", "network"]
    assert run["layers"]["(model)"]["curves"]["spectrum"]["steps"] == [0, 3]


def test_what_a_watch_wrote_is_read(tmp_path):
    """With the numbers that the training loop gave, and tensors in a folder for each step."""
    model = nn.Sequential(nn.Linear(6, 3))
    watch = fishertail.Watch(model, torch.randn(9, 6), torch.arange(9) % 3, folder=tmp_path, schedule=[0, 4])
    returned = [watch(0, loss=1.5), watch(4, loss=0.5)]
    found = fishertail.RunAnalysis.load(tmp_path)
    assert found.tables["metrics"]["loss"].tolist() == [1.5, 0.5]
    assert list(found.eigenvectors) == [f"step0000000{step}/{layer}" for step in (0, 4) for layer in ("0", "network")]
    largest = lines(found.plot("spectrum"))["network"][1]
    assert largest.tolist() == pytest.approx([scalars["lambda_1/network"] for scalars in returned])


def test_broken_and_empty_folders(tmp_path):
    with pytest.raises(StorageError, match=r"a folder with tables of a run \(metrics\.csv, .* expected, found none"):
        fishertail.RunAnalysis.load(tmp_path)
    analysis().save(tmp_path)
    text = (tmp_path / "spectrum.csv").read_text()
    (tmp_path / "spectrum.csv").write_text(text[: len(text) // 2])
    with pytest.raises(StorageError, match=r"spectrum\.csv: not a file that fishertail wrote"):
        fishertail.RunAnalysis.load(tmp_path)


def test_failures_are_kept(tmp_path):
    assert analysis().failures.empty
    row = pd.DataFrame([(5, 0.5, "spectrum", "out of memory")], columns=FAILURES.names)
    fishertail.RunAnalysis({**analysis().tables, "failures": row}).save(tmp_path)
    found = fishertail.RunAnalysis.load(tmp_path)
    assert found.failures["reason"].tolist() == ["out of memory"]
    assert "1 could not be measured" in found._repr_html_()


class Text(HTMLParser):
    """The texts of cells, and whatever a page would fetch."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data") and value]


def test_in_a_notebook_it_shows_itself():
    html = analysis()._repr_html_()
    found = Text(html)
    assert found.tags.count("svg") == sum(measurements()[name].panel is not None for name in MEASURED)
    assert all(value.startswith("#") for value in found.fetched)
    assert "4 checkpoints, steps 0 to 90; 30 samples" in html
    assert "also draws norms" in html
    (last,) = analysis().spectrum.query("step == 90 and layer == 'network'")["eigenvalue"]
    assert f"{last:.4g}" in re.findall(r"<td>(.*?)</td>", html)


def test_the_summary_is_what_the_tables_hold():
    summary = run_summary.by_step(analysis().tables)
    assert summary.columns.tolist() == ["step", "epoch", "loss", "accuracy", "lambda_1", "outliers"]
    assert summary["step"].tolist() == STEPS
    of_step = analysis().norms.query("step == 5")
    row = summary.set_index("step").loc[5]
    assert row["accuracy"] == of_step["correct"].mean()
    assert row["outliers"] == fishertail.outliers(of_step["network"].to_numpy(), threshold=2).count / 30
    assert np.isclose(row["loss"], of_step["loss"].mean())
    of_layer = run_summary.by_step({"spectrum": analysis().spectrum.query("layer != 'network'")})
    assert of_layer["lambda_1"].tolist() == analysis().spectrum.query("layer == '2'")["eigenvalue"].tolist()
    assert run_summary.by_step({}).empty
    norms = analysis().norms
    lost = norms.assign(loss=norms["loss"].where((norms["step"] != 5) | (norms["sample"] != 3)))
    assert run_summary.by_step({"norms": lost})["loss"].isna().tolist() == [step == 5 for step in STEPS]


def test_the_page_is_made_of_the_saved_tables(tmp_path, monkeypatch):
    made = []
    module = type(sys)("fishertail.page.of_folder")
    module.write = lambda folder, path: made.append((folder.name, sorted(saved_tables.read(folder)), path))
    monkeypatch.setitem(sys.modules, "fishertail.page.of_folder", module)
    monkeypatch.setattr("fishertail.page.of_folder", module, raising=False)
    importlib.import_module("fishertail.page")
    analysis().page(tmp_path / "run.html")
    assert made == [("run", sorted(analysis().tables.keys() - {"eigenvectors"}), tmp_path / "run.html")]


@pytest.mark.slow
def test_a_real_page_has_the_tables(tmp_path):
    pytest.importorskip("fishertail.page.of_folder")
    analysis().page(tmp_path / "my_run.html")
    html = (tmp_path / "my_run.html").read_text()
    assert re.search(r"<title>.*my_run</title>", html)
    assert "lambda_1" in html
