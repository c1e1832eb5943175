"""A watched training goes on, whatever fails: a measurement, a copy, a disk; what cannot work is refused first."""

import dataclasses
import os
import resource
import signal
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import StorageError, UnsupportedModelError
from fishertail.execution.live import watch as module
from fishertail.measurements.measurement import measurements
from tests.execution import watching
from tests.execution.watching import network, samples, table, watched
from tests.truth import dense_gradients


def test_a_measurement_that_fails_leaves_the_others_and_the_training(tmp_path, monkeypatch):
    def fails(at, options):
        if at.step in (1, 2):
            raise torch.OutOfMemoryError("out of\nmemory")
        return measurements()["spectrum"].measure(at, options)

    original = module.choose

    def choose(*arguments, **options):
        found = original(*arguments, **options)
        changed = [dataclasses.replace(m, measure=fails) if m.name == "spectrum" else m for m in found.measurements]
        return dataclasses.replace(found, measurements=tuple(changed))

    monkeypatch.setattr(module, "choose", choose)
    with pytest.warns(UserWarning, match="spectrum") as caught:
        _, found, _ = watched(tmp_path, network(), last=3, schedule=[0, 1, 2, 3], steps_per_epoch=2)
    said = [str(each.message) for each in caught]
    assert [text.split(";")[0] for text in said] == [
        "step 1: spectrum failed: OutOfMemoryError: out of memory",
        "step 1: ax_statistics failed: needs spectrum, which failed",
    ]
    assert caught[0].filename == watching.__file__
    failures = table(tmp_path, "failures.csv")
    assert failures["step"].tolist() == [1, 1, 2, 2]
    assert failures["epoch"].tolist() == [0.5, 0.5, 1, 1]
    assert failures["measurement"].tolist() == ["spectrum", "ax_statistics"] * 2
    assert table(tmp_path, "norms.parquet")["step"].unique().tolist() == [0, 1, 2, 3]
    assert table(tmp_path, "spectrum.csv")["step"].unique().tolist() == [0, 3]
    assert "lambda_1/4" not in found[1]
    assert found[1].keys() >= {"outliers/4", "train_loss"}


def test_a_model_that_cannot_be_copied_at_a_step_leaves_the_training(tmp_path):
    model = network()
    watch = fishertail.Watch(model, *samples(), folder=tmp_path, schedule=[0, 1], device="cpu")
    assert watch(0)
    model.cache = nn.Linear(1, 1)(torch.ones(1))  # which deepcopy refuses
    with pytest.warns(UserWarning, match=r"step 1: checkpoint failed: model: one that `copy.deepcopy` can copy"):
        assert watch(1, loss=2.5) == {}
    assert table(tmp_path, "metrics.csv")["loss"].iloc[-1] == 2.5
    assert table(tmp_path, "failures.csv")["measurement"].tolist() == ["checkpoint"]
    assert table(tmp_path, "norms.parquet")["step"].unique().tolist() == [0]


def test_numbers_that_are_none_leave_the_training_and_the_measurements(tmp_path):
    watch = fishertail.Watch(network(), *samples(), folder=tmp_path, schedule=[0, 1, 2], device="cpu")
    assert watch(0, loss=None, accuracy=0.5)
    assert not (tmp_path / "failures.csv").exists()
    with pytest.warns(UserWarning, match=r"step 1: scalars failed: loss: a number expected \(") as caught:
        assert watch(1, loss=torch.ones(3), accuracy=0.75)["lambda_1/network"] > 0
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns once
        assert watch(2, loss="low", accuracy=torch.tensor(1.0))["lambda_1/network"] > 0
    metrics = table(tmp_path, "metrics.csv")
    assert metrics["step"].tolist() == [0, 1, 2]
    assert metrics["loss"].isna().all()
    assert metrics["accuracy"].tolist() == [0.5, 0.75, 1]
    failures = table(tmp_path, "failures.csv")
    assert failures[["step", "measurement"]].to_numpy().tolist() == [[1, "scalars"], [2, "scalars"]]


def test_numbers_do_not_replace_what_is_measured(tmp_path):
    model = network()
    watch = fishertail.Watch(model, *samples(), folder=tmp_path, measurements=["norms"], steps_per_epoch=4)
    with pytest.warns(
        UserWarning, match="train_loss: the name of a column of its own; give .* such as batch_train_loss"
    ):
        watch(2, train_loss=99.0, epoch=7.0, batch_loss=3.0)
    row = table(tmp_path, "metrics.csv").iloc[0]
    norms = table(tmp_path, "norms.parquet")
    assert row["train_loss"] == pytest.approx(norms["loss"].mean())
    assert (row["epoch"], row["batch_loss"]) == (0.5, 3.0)
    reasons = table(tmp_path, "failures.csv")["reason"].tolist()
    assert [reason.split(":")[0] for reason in reasons] == ["train_loss", "epoch"]


def test_the_learning_rate_of_a_step_counts_for_it(tmp_path):
    options = {"measurements": ["hessian"], "layers": ["network"]}
    given = fishertail.Watch(network(), *samples(), folder=tmp_path / "given", learning_rate=0.2, **options)
    given(1)
    scheduled = fishertail.Watch(network(), *samples(), folder=tmp_path / "scheduled", **options)
    scheduled(1, learning_rate=0.2)
    first, second = (table(tmp_path / name, "hessian.csv") for name in ("given", "scheduled"))
    pd.testing.assert_frame_equal(first, second)
    assert np.isfinite(second["rate_times_eigenvalue"]).all()


def test_a_step_that_is_no_whole_number_leaves_the_training(tmp_path):
    watch = fishertail.Watch(network(), *samples(), folder=tmp_path, schedule=[0, 1], device="cpu")
    with pytest.warns(UserWarning, match=r"step: a whole number expected, found 0\.5; nothing is measured") as caught:
        assert (watch(0.5), watch(None)) == ({}, {})
    assert [each.filename for each in caught] == [__file__]


def test_an_interrupt_is_not_a_failure(tmp_path, monkeypatch):
    model = network()
    watch = fishertail.Watch(model, *samples(), folder=tmp_path, device="cpu")

    def interrupted(*_):
        raise KeyboardInterrupt

    model[0].register_forward_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch(0)
    assert not (tmp_path / "metrics.csv").exists()


def test_what_does_not_fit_is_refused_at_the_start(tmp_path):
    images, labels = samples()
    refused = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3))
    for model, data, options, error, said in (
        (refused, (images, labels), {}, UnsupportedModelError, "layer '1': batch normalisation"),
        (nn.Linear(6, 2), (images, labels), {}, ValueError, "labels: 0 to 1 expected"),
        (nn.Linear(6, 3), (images, labels[:5]), {}, ValueError, "as many labels as images"),
        (nn.Linear(6, 3), (images, labels), {"layers": ["fc4"]}, ValueError, "layers: among"),
        (nn.Linear(6, 3), (images, labels), {"steps_per_epoch": 0}, ValueError, "steps_per_epoch: .* above 0 expected"),
        (nn.Linear(6, 3), (images, labels), {"steps_per_epoch": float("nan")}, ValueError, "expected, found nan"),
        (nn.Linear(6, 3), (images, labels), {"measurements": ["curvature"]}, ValueError, "measurements: among"),
    ):
        with pytest.raises(error, match=said):
            fishertail.Watch(model, *data, folder=tmp_path / "none", device="cpu", **options)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        fishertail.Watch(nn.Linear(6, 3), images, labels, folder=tmp_path / "file" / "below", device="cpu")


@pytest.mark.parametrize("case", ["all gradients zero", "one sample", "a dead layer"])
def test_degenerate_gradients_are_no_failure(tmp_path, case):
    model, (images, labels) = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), samples()
    loss = (lambda outputs, targets: 0 * outputs.sum()) if case == "all gradients zero" else None
    number = 1 if case == "one sample" else 37
    if case == "a dead layer":
        nn.init.constant_(model[0].bias, -1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch = fishertail.Watch(model, images[:number], labels[:number], folder=tmp_path, loss=loss, device="cpu")
        found = watch(0)
    if case != "one sample":
        assert found["lambda_1/0"] == 0
    gradients = dense_gradients(model, images[:number], labels[:number]) if loss is None else {"2": np.zeros((37, 18))}
    largest = np.linalg.eigvalsh(gradients["2"] @ gradients["2"].T / number)[-1]
    assert found["lambda_1/2"] == pytest.approx(largest, rel=1e-4)


def test_a_file_that_cannot_grow_is_a_warning_and_leaves_all_as_it_was(tmp_path):
    watch, _, training = watched(tmp_path, network(), last=1, schedule="every 1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.warns(UserWarning, match=r"step 2: files failed: .*cannot write"):
            found = watch(2, loss=training.step())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert found["lambda_1/4"] > 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert not (tmp_path / "step00000002").exists()
    watch(3, loss=training.step())
    assert table(tmp_path, "metrics.csv")["step"].tolist() == [0, 1, 3]
    assert table(tmp_path, "failures.csv")[["step", "measurement"]].to_numpy().tolist() == [[2, "files"]]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_training_goes_on_with_a_full_disk(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=84k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.warns(UserWarning, match=r"files failed: .*No space left on device") as caught:
            _, found, _ = watched(tmp_path, network(), last=9, schedule="every 1")
        assert len([each for each in caught if "No space left" in str(each.message)]) == 1
        assert all(each["lambda_1/4"] > 0 for each in found.values())
        steps = table(tmp_path, "metrics.csv")["step"].tolist()
        assert 0 < len(steps) < 10
        assert not list(tmp_path.glob(".step*"))
        for name in ("norms.parquet", "spectrum.csv", "outliers.csv"):
            assert table(tmp_path, name)["step"].unique().tolist() == steps
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path)], check=True)
        watched(tmp_path, network(), last=9, schedule="every 1")
        assert table(tmp_path, "metrics.csv")["step"].tolist() == list(range(10))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
