"""The candidates for Fig. 6, of made-up runs of which one layer and length has the printed numbers."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fishertail.measurements.collect import run_tables
from fishertail.paper.printed import PRINTED
from fishertail.results import of_run, storage
from fishertail.results.run import Run

SCRIPT = Path(__file__).parents[2] / "docs/reproduction/fig6.py"
EPOCHS = {16: (0, 1, 2, 3, 4), 256: (0, 1, 2, 4, 16, 32)}
PER_EPOCH = {16: 3750, 256: 235}
LOWEST = {16: 2, 256: 16}  # E*: at 16 its own, at 256 another


@pytest.fixture(scope="module")
def fig6():
    spec = importlib.util.spec_from_file_location("fig6", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, run, numbers):
    """The tables of a run whose A, B, re-solved and at both ends, are what `numbers` says of an epoch and layer."""
    place, record = folder / "runs" / run.path, {"parameters": {}, "data": []} | of_run.identity(vars(run))
    epochs, per_epoch = EPOCHS[run.batch_size], PER_EPOCH[run.batch_size]
    rows = [
        {"step": epoch * per_epoch, "epoch": float(epoch), "layer": layer}
        | dict(zip(("A", "B", "B_resolved", "B_both_ends"), numbers(epoch, layer), strict=True))
        for epoch in epochs
        for layer in ("fc1", "fc2")
    ]
    for name, parts in (("trimmed", ("epochs0001-0002", "landmarks")), ("trimmed_both_ends", (".",))):
        table = run_tables()[name]
        frame = pd.DataFrame(rows).reindex(columns=table.names)
        for part in parts:  # landmarks repeat rows
            storage.write_table(frame, place / part / table.file, record)
    metrics = pd.DataFrame({"step": [epoch * per_epoch for epoch in epochs], "epoch": [float(e) for e in epochs]})
    metrics["validation_loss"] = (metrics["epoch"] - LOWEST[run.batch_size]).abs()
    metrics = metrics.reindex(columns=run_tables()["metrics"].names)
    storage.write_table(metrics, place / "metrics.csv", record)


def far(epoch, layer):
    return 1e3, 1e2, 1e2, 1e2


@pytest.fixture
def found(fig6, tmp_path):
    """The candidates, when the numbers of the two batch sizes are given by functions of seed, epoch and layer."""

    def candidates(of_16, of_256, seeds=(0,)):
        for seed in seeds:
            write(tmp_path, Run("mnist", "fc", 16, seed), lambda *at, seed=seed: of_16(seed, *at))
            write(tmp_path, Run("mnist", "fc", 256, seed), lambda *at, seed=seed: of_256(seed, *at))
        runs = fig6.runs_below([tmp_path])
        return fig6.candidates(fig6.values(runs), fig6.minima(runs))

    return candidates


def at(layer, epoch, numbers):
    """`numbers` in a layer at an epoch, and elsewhere far from them."""
    return lambda seed, e, name: numbers if (name, e) == (layer, epoch) else far(e, name)


SMALL, LARGE = PRINTED["mnist", 16], PRINTED["mnist", 256]


@pytest.mark.parametrize(
    ("epochs", "rule", "length"),
    [((1, 1), "epoch", 1), ((1, 16), "step", 3750), ((2, 16), "own E*", np.nan), ((4, 32), "own 2 E*", np.nan)],
)
@pytest.mark.parametrize(("reading", "place"), [("V_1 kept", 1), ("re-solved", 2), ("both ends, V_1 kept", 3)])
def test_the_candidate_that_has_the_printed_numbers_comes_first(found, epochs, rule, length, reading, place):
    def numbers(printed):
        return tuple(printed.A if n == 0 else printed.B if n == place else 1e5 for n in range(4))

    table = found(at("fc2", epochs[0], numbers(SMALL)), at("fc2", epochs[1], numbers(LARGE)))
    best = table.iloc[0]
    assert (best["layer"], best["rule"], best["reading"], best["printed"]) == ("fc2", rule, reading, "as printed")
    np.testing.assert_equal(best["length"], length)
    assert best["factor"] == pytest.approx(1)
    assert best["largest_factor"] == pytest.approx(1)
    assert best["seeds"] == 1
    assert table["factor"].is_monotonic_increasing
    assert table.iloc[1]["factor"] > 2


def test_every_candidate_is_there_once(found):
    distinct = np.random.default_rng(0)
    table = found(lambda *at: distinct.uniform(1, 2, 4), lambda *at: distinct.uniform(1, 2, 4))
    lengths = 4 + 2 + 2  # epochs 0, 1, 2, 4; steps 3750 (epoch 16 at 256) and 7500 (32); own E*, own 2 E*
    assert len(table) == 2 * lengths * 3 * 2
    assert not table.duplicated(["layer", "rule", "length", "reading", "printed"]).any()


def test_the_other_variant_takes_b_by_the_printed_decrease(found):
    by_percent = (SMALL.A, SMALL.A * 0.0003, 1e5, 1e5)
    table = found(at("fc1", 1, by_percent), at("fc1", 1, (LARGE.A, LARGE.B, 1e5, 1e5)))
    best = table.iloc[0]
    assert best["printed"] == "B of 16 by 99.97 %"
    assert best["factor"] == pytest.approx(1, rel=1e-6)
    as_printed = table.query("layer == 'fc1' and rule == 'epoch' and length == 1 and printed == 'as printed'")
    missed = as_printed.set_index("reading").loc["V_1 kept"]
    ratio = SMALL.A * 0.0003 / SMALL.B
    assert missed["largest_factor"] == pytest.approx(ratio)
    assert missed["factor"] == pytest.approx(np.exp(np.sqrt(np.log(ratio) ** 2 / 4)))


def test_seeds_count_by_their_geometric_mean(found):
    def spread(printed):
        return lambda seed, *_: (printed.A * (1 / 9, 9)[seed], printed.B * (4, 1 / 4)[seed], 1e5, 1e5)

    best = found(spread(SMALL), spread(LARGE), seeds=(0, 1)).iloc[0]
    assert best["factor"] == pytest.approx(1)
    assert best["seeds"] == 2
    assert (best["A_16"], best["B_256"]) == pytest.approx((SMALL.A, LARGE.B))


def test_a_run_that_stopped_early_has_no_minimum_of_its_own(fig6, tmp_path, monkeypatch):
    monkeypatch.setitem(LOWEST, 16, 4)  # the last epoch
    for size in EPOCHS:
        write(tmp_path, Run("mnist", "fc", size, 0), far)
    assert set(fig6.minima(fig6.runs_below([tmp_path]))) == {Run("mnist", "fc", 256, 0)}


def test_without_one_of_the_batch_sizes_there_is_no_candidate_and_no_gradient_counts_as_infinitely_far(fig6, tmp_path):
    write(tmp_path, Run("mnist", "fc", 16, 0), far)
    runs = fig6.runs_below([tmp_path])
    found = fig6.candidates(fig6.values(runs), fig6.minima(runs))
    assert found.empty
    assert fig6.summary(found).startswith("No candidate:")
    write(tmp_path, Run("cifar10", "fc", 16, 0), far)  # which is not what Fig. 6 is of
    assert fig6.runs_below([tmp_path]) == runs
    write(tmp_path, Run("cifar10", "conv", 16, 0), lambda epoch, layer: (0, 0, 0, 0) if epoch else (76.53, 30.6, 1, 1))
    runs = fig6.runs_below([tmp_path])
    table = fig6.candidates(fig6.values(runs), fig6.minima(runs))
    assert table.iloc[0][["rule", "length", "reading"]].tolist() == ["epoch", 0, "V_1 kept"]
    assert np.isinf(table["factor"].iloc[-1])


def test_the_numbers_of_a_batch_size_are_compared_by_themselves_and_with_the_other(fig6, tmp_path):
    """Where each batch size has its numbers in another layer, both together are given by none."""
    for size, layer in ((16, "fc1"), (256, "fc2")):
        printed = PRINTED["cifar10", size]
        numbers = at(layer, 4, (printed.A, printed.B, 1, 1))
        write(tmp_path, Run("cifar10", "conv", size, 0), lambda *place, numbers=numbers: numbers(0, *place))
    runs = fig6.runs_below([tmp_path])
    table = fig6.candidates(fig6.values(runs), fig6.minima(runs))
    best = table.groupby("batch_sizes").first()
    assert best.loc["16", ["layer", "rule", "length"]].tolist() == ["fc1", "epoch", 4]
    assert best.loc["256", ["layer", "rule", "length"]].tolist() == ["fc2", "epoch", 4]
    assert best.loc[["16", "256"], "factor"].tolist() == pytest.approx([1, 1])
    assert best.loc["16 and 256", "factor"] > 1.5
    assert table.query("batch_sizes == '256'")[["A_16", "B_16"]].isna().all(axis=None)


def test_the_best_by_chance_is_that_of_candidates_drawn_and_compared(fig6):
    printed = {"A_16": 1.0, "B_16": 1.0}
    ranges = pd.DataFrame({"A_16": [1e-3, 1e3], "B_16": [1e-2, 1e4]})
    random = np.random.default_rng(1)
    drawn = 10 ** random.uniform((-3, -2), (3, 4), (2000, 30, 2))
    best = np.exp(np.sqrt(np.square(np.log(drawn)).mean(axis=2))).min(axis=1)
    assert fig6.best_by_chance(ranges, printed, 30) == pytest.approx(np.median(best), rel=0.05)


def test_the_script_writes_the_table_and_says_how_many_were_tried(tmp_path):
    for size, printed in ((16, SMALL), (256, LARGE)):
        numbers = at("fc2", 1, (printed.A, printed.B, 1e5, 1e5))
        write(tmp_path, Run("mnist", "fc", size, 0), lambda *place, numbers=numbers: numbers(0, *place))
    command = [sys.executable, SCRIPT, tmp_path, "--output", tmp_path / "found.csv"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table = pd.read_csv(tmp_path / "found.csv")
    assert f"{len(table)} candidates were tried: mnist at 16 and 256 2 layers" in output
    assert "| mnist | 16 and 256 | V_1 kept | as printed |" in output
    assert "fc2, epoch 1 | 1 | 1 | 1 |" in output
