"""The benchmarks on today's networks: peers and passes that need no package of their own, and the chart."""

import math

import numpy as np
import pandas as pd
import pytest
from benchmarks import chart, exactness, methods, networks, networks_report, passes, problems
from benchmarks.passes import Clock


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "KEPT", tmp_path_factory.mktemp("kept"))
        yield networks.load("gpt-tied", 20, "cpu")


def test_fishertail_and_a_peer_agree_with_the_truth(problem, tmp_path):
    found = exactness.exactness(problem, 4, str(tmp_path / "truth.npz"))
    assert max(found["error"], found["layer_error"], found["eigenvalue_error"]) < 1e-4
    truth = np.load(tmp_path / "truth.npz")
    np.testing.assert_allclose(methods.vmap_norms(problem)[truth["index"]], truth["norms"], rtol=1e-4)


def test_a_network_is_the_same_when_it_is_loaded_again(problem):
    again = networks.load("gpt-tied", 20, "cpu")
    assert all((a == b).all() for a, b in zip(problem.model.parameters(), again.model.parameters(), strict=True))


def test_the_checkpoints_that_are_measured_on_are_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "KEPT", tmp_path)
    monkeypatch.setattr(problems, "DATASETS", {"fc": "digits"})
    problems.train("fc16", [0, 2], "data")
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(kept) == {"fc16-epoch0000.safetensors", "fc16-epoch0002.safetensors"}
    problems.train("fc16", [2], "data")
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    before, after = (problems.load("fc16", epoch, 100, "data", "cpu") for epoch in (0, 2))
    assert len(after.labels) == 100
    losses = [float(problems.mean_loss(each.model(each.images), each.labels)) for each in (before, after)]
    assert losses[1] < losses[0] - 0.2


def test_the_best_pass_is_one_of_those_tried(problem):
    best, seconds = passes.best_pass(problem, Clock("cpu", 1))
    assert seconds[str(best)] <= passes.SLOWER * min(seconds.values())
    assert set(seconds) == {"batch size 16", "batch size 20"}  # no convolutions, so one memory format


def test_the_chart_is_drawn_again_from_its_table_alone(tmp_path):
    rows = pd.DataFrame(
        [
            {"network": "GPT", "method": "fishertail", "passes": 1.25, "note": ""},
            {"network": "GPT", "method": "BackPACK BatchL2Grad", "passes": math.nan, "note": "fails"},
        ]
    )
    chart.write(rows, tmp_path / "chart.csv")
    first = (tmp_path / "chart.svg").read_bytes()
    (tmp_path / "chart.svg").unlink()
    chart.draw(tmp_path / "chart.csv")
    assert (tmp_path / "chart.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ({"fault": None, "error": 1e-7}, ""),
        ({"fault": None, "error": 0.4}, "off by 40%"),
        ({"fault": "NotImplementedError: BatchNorm", "error": math.nan}, "refuses"),
        ({"fault": "RuntimeError: shapes", "error": math.nan}, "fails"),
        ({"fault": "> 200 s", "error": math.nan, "pass_seconds": 4.0}, "> 50"),
    ],
)
def test_why_there_is_no_bar(row, note):
    assert networks_report._note(pd.Series({"kind": "norms", "pass_seconds": math.nan} | row)) == note
