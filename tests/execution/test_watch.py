"""A network measured while it trains: what is measured, that training does not notice, restarts, and failures."""

import dataclasses
import functools
import os
import random
import resource
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fishertail
from fishertail.errors import StorageError, UnsupportedModelError
from fishertail.execution.live import watch as module
from fishertail.execution.live.schedule import steps_of
from fishertail.measurements.measurement import measurements
from fishertail.results import storage
from tests.truth import dense_gradients

MEASURED = ("norms", "spectrum", "outliers", "ax_statistics")


def network():
    """With all that differs between training and evaluation."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3))


def samples(number=37):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, 6, generator=generator), torch.arange(number) % 3


class Training:
    """SGD with momentum on mini-batches of uneven size, with random numbers of three kinds in it."""

    def __init__(self, model):
        self.model, self.optimizer = model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", enabled=torch.is_autocast_enabled("cpu"))
        self.images, self.labels = samples()
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    def step(self):
        batch = torch.randperm(37)[: 8 + random.randrange(3) + np.random.randint(3)]
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.images[batch]), self.labels[batch])
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


def watched(folder, model, last, first=0, **options):
    """The watch after the steps from `first` to `last`, what it returned by step, and the training."""
    options = {"measurements": MEASURED, "device": "cpu", **options}
    watch = fishertail.Watch(model, *samples(), folder=folder, **options)
    training, found = Training(model), {}
    if first == 0:
        found[0] = watch(0)
    for step in range(first + 1, last + 1):
        loss = training.step()
        found[step] = watch(step, loss=loss)
    return watch, found, training


def table(folder, name):
    return storage.read_table(folder / name)


def test_the_tables_are_those_of_analyse_run_and_of_a_float64_truth(tmp_path):
    model, weights, returned = network(), {}, {}
    watch = fishertail.Watch(model, *samples(), folder=tmp_path, measurements=MEASURED, schedule=[0, 2, 3], k=2)
    training = Training(model)
    for step in range(5):
        weights[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        returned = watch(step) or returned
        training.step()
    steps = {step: weights[step] for step in (0, 2, 3)}
    expected = fishertail.analyse_run(model, steps, *samples(), measurements=MEASURED, k=2, device="cpu")
    assert watch.analysis().norms.equals(table(tmp_path, "norms.parquet"))
    for name in ("norms.parquet", "projections.parquet", "spectrum.csv", "outliers.csv", "ax_statistics.csv"):
        kept = table(tmp_path, name)
        assert list(kept) == list(expected.tables[name.split(".")[0]])
        assert kept.equals(expected.tables[name.split(".")[0]].astype(kept.dtypes))
    kept = storage.read_tensors(tmp_path / "step00000003" / "eigenvectors.safetensors")
    assert torch.equal(kept["step00000003/network"], expected.eigenvectors["step00000003/network"])

    truth = network()
    truth.load_state_dict(weights[3])
    gradients = dense_gradients(truth.eval(), *samples())
    assert np.allclose(table(tmp_path, "norms.parquet").query("step == 3")["4"], np.linalg.norm(gradients["4"], axis=1))
    largest = np.linalg.eigvalsh(gradients["4"] @ gradients["4"].T / 37)[-1]
    assert returned["lambda_1/4"] == pytest.approx(largest, rel=1e-4)
    rows = table(tmp_path, "ax_statistics.csv").query("step == 3 and layer == '4'")
    assert returned["ax_statistics/near_zero_share/4"] == rows["near_zero_share"].item()
    assert (
        returned["outliers/network"] == fishertail.outliers(fishertail.gradient_norms(truth, *samples()).network).count
    )


@pytest.mark.parametrize("mode", ["plain", "autocast and scaled"])
def test_a_watched_training_is_bit_identical(tmp_path, mode):
    alone, model = network(), network()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode != "plain"):
        training = Training(alone)
        losses = [training.step() for _ in range(9)]
        after = [torch.rand(3), np.random.rand(3), random.random()]
        seen = []
        handle = model[0].register_forward_hook(lambda *_: seen.append(model.training))
        _, found, followed = watched(tmp_path, model, last=9, schedule=[0, 3, 4, 9])
        assert torch.is_autocast_enabled("cpu") == (mode != "plain")
    assert [bool(each) for each in found.values()] == [step in (0, 3, 4, 9) for step in range(10)]
    assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), model.state_dict().values(), strict=True))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(alone.parameters(), model.parameters(), strict=True))
    moments = [list(each.optimizer.state.values()) for each in (training, followed)]
    assert all(torch.equal(a["momentum_buffer"], b["momentum_buffer"]) for a, b in zip(*moments, strict=True))
    assert torch.equal(after[0], torch.rand(3))
    assert (after[1] == np.random.rand(3)).all()
    assert after[2] == random.random()
    assert losses[8] == table(tmp_path, "metrics.csv")["loss"].iloc[-1]
    assert model.training
    assert all(module.training for module in model.modules())
    assert list(model[0]._forward_hooks) == [handle.id]
    truth = network()
    truth.load_state_dict(alone.state_dict())  # in full precision, though training is not
    norms = np.linalg.norm(dense_gradients(truth.eval(), *samples())["4"], axis=1)
    assert np.allclose(table(tmp_path, "norms.parquet").query("step == 9")["4"], norms, rtol=1e-5)


def test_between_measurements_a_call_is_one_look_into_a_set(tmp_path):
    watch, *_ = watched(tmp_path, network(), last=0, schedule="every 100")
    calls, loss = [], torch.tensor(1.0)
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        watch(1, loss=loss)
    finally:
        sys.setprofile(None)
    assert calls == ["__call__"]


def test_schedules():
    octaves = steps_of("2 per octave")
    assert [step for step in range(100) if step in octaves] == [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91]
    assert [step for step in range(100) if step in steps_of("every 30")] == [0, 30, 60, 90]
    assert [step for step in range(100) if step in steps_of([3, 50])] == [3, 50]
    for wrong in ("all", "0 per octave", "every 0", [], [-1], [1.5], [True]):
        with pytest.raises(ValueError, match=r"schedule: .* expected, found"):
            steps_of(wrong)


def test_a_restart_goes_on_from_what_the_folder_has(tmp_path):
    once, halves = tmp_path / "once", tmp_path / "halves"
    watched(once, network(), last=8, schedule="every 2")
    model = network()
    _, _, training = watched(halves, model, last=4, schedule="every 2")
    (halves / ".step-killed").mkdir()
    before = table(halves, "norms.parquet")
    again = fishertail.Watch(model, *samples(), folder=halves, measurements=MEASURED, schedule="every 2")
    assert not (halves / ".step-killed").exists()
    assert again(4, loss=100.0) == {}  # as it goes on from its last weights
    assert table(halves, "norms.parquet").equals(before)
    for step in range(5, 9):
        again(step, loss=training.step())
    for name in ("norms.parquet", "spectrum.csv", "outliers.csv", "metrics.csv"):
        assert (halves / name).read_bytes() == (once / name).read_bytes()


def test_a_loss_has_one_name_in_all_processes():
    def half(outputs, targets, weight):
        return weight * outputs.sum()

    assert module._name(functools.partial(half, weight=0.5)) == module._name(functools.partial(half, weight=0.5))
    assert "0x" not in module._name(functools.partial(half, weight=0.5))
    assert module._name(functools.partial(half, weight=0.5)) != module._name(functools.partial(half, weight=0.6))
    assert module._name(nn.MSELoss()) == "MSELoss()"


def test_a_folder_of_another_run_is_refused(tmp_path):
    model, (images, labels) = network(), samples()
    watched(tmp_path, model, last=0)
    for what, other in {
        "model": {"model": nn.Linear(6, 3)},
        "data": {"images": images + 1},
        "measurements": {"threshold": 5},
        "loss": {"loss": lambda outputs, targets: outputs.square().sum()},
        "steps_per_epoch": {"steps_per_epoch": 3},
        "samples": {"subset": 5},
    }.items():
        given = {"model": model, "images": images, "labels": labels, "measurements": MEASURED, **other}
        with pytest.raises(StorageError, match=f"a run with {what if what != 'samples' else 'data'} .* expected"):
            fishertail.Watch(**given, folder=tmp_path, device="cpu")
    (tmp_path / "watch.json").unlink()
    with pytest.raises(StorageError, match=r"an empty folder, or one with watch\.json, expected, found"):
        fishertail.Watch(model, images, labels, folder=tmp_path, device="cpu")


def test_pairs_and_whole_runs_are_those_of_analyse_run(tmp_path):
    names, model, weights = ["alignment", "layers", "noise_scale"], network(), {}
    watch = fishertail.Watch(
        model, *samples(), folder=tmp_path, measurements=names, schedule="every 1", steps_per_epoch=4
    )
    training = Training(model)
    for step in range(4):
        weights[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        watch(step)
        training.step()
    expected = fishertail.analyse_run(
        model, weights, *samples(), measurements=names, steps_per_epoch=4, device="cpu"
    ).tables
    whole = [table for name in names for table in measurements()[name].tables if table.suffix != "safetensors"]
    assert {measurements()[name].scope for name in names} == {"pair", "run", "gradients"}
    assert len(whole) >= 3
    for each in whole:
        kept, of_it = table(tmp_path, each.file), expected[each.name]
        assert len(of_it)
        pd.testing.assert_frame_equal(kept, of_it, check_dtype=False)
    assert not (tmp_path / "failures.csv").exists()


def test_a_x_at_the_lowest_validation_loss_follows_it(tmp_path):
    model = network()
    watch = fishertail.Watch(
        model, *samples(), folder=tmp_path, measurements=["ax_at_minimum"], schedule="every 1", steps_per_epoch=2
    )
    losses = {0: 9.0, 1: 0.1, 2: 3.0, 3: 0.2, 4: 2.0, 5: None, 6: 4.0}  # odd steps end no epoch
    expected = {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4}
    training = Training(model)
    for step, loss in losses.items():
        watch(step, **({} if loss is None else {"validation_loss": loss}))
        projections = table(tmp_path, "projections.parquet")
        of_step = projections[projections["step"] == expected[step]].reset_index(drop=True)
        pd.testing.assert_frame_equal(table(tmp_path, "ax_at_minimum.parquet"), of_step)
        training.step()
    assert not (tmp_path / "failures.csv").exists()


@pytest.mark.parametrize("per_epoch", [None, 2])
def test_without_a_validation_loss_there_is_no_lowest_one(tmp_path, per_epoch):
    given = {"measurements": ["ax_at_minimum"], "steps_per_epoch": per_epoch}
    watch = fishertail.Watch(network(), *samples(), folder=tmp_path, schedule="every 1", **given)
    watch(0)
    watch(2, **({"validation_loss": 1.0} if per_epoch is None else {}))  # its epoch is not known
    assert not len(table(tmp_path, "ax_at_minimum.parquet"))
    analysis = fishertail.analyse_run(network(), {0: network().state_dict()}, *samples(), device="cpu", **given)
    assert analysis.tables["ax_at_minimum"].empty
    assert analysis.failures.empty


def test_a_subset_is_drawn_once_and_every_file_says_so(tmp_path):
    images, labels = samples()
    model = network()
    given = TensorDataset(images, labels)
    watch = fishertail.Watch(model, given, folder=tmp_path, subset=10, seed=5, schedule=[0, 1], device="cpu")
    watch(0)
    again = fishertail.Watch(
        model, DataLoader(given, 4, shuffle=True), folder=tmp_path, subset=10, seed=5, schedule=[0, 1], device="cpu"
    )
    again(1)
    positions = table(tmp_path, "subset.csv")["sample"].to_numpy(copy=True)
    assert len(np.unique(positions)) == 10
    assert not np.array_equal(positions, np.arange(10))
    index = torch.tensor(positions)
    norms = fishertail.gradient_norms(model.eval(), images[index], labels[index])
    for _, rows in table(tmp_path, "norms.parquet").groupby("step"):
        assert (rows["sample"] == positions).all()
        assert np.allclose(rows["network"], norms.network, rtol=1e-6)
    files = [path for path in tmp_path.rglob("*.*") if path.suffix in (".csv", ".parquet", ".safetensors")]
    assert len(files) == 8
    for path in files:
        kept = storage.read_provenance(path)["parameters"]["samples"]
        assert kept == {"number": 10, "of": 37, "subset_seed": 5}
    with pytest.raises(ValueError, match="subset: 1 or more expected, found 0"):
        fishertail.Watch(model, given, folder=tmp_path, subset=0)


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
    assert caught[0].filename == __file__
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


def test_tensorboard_shows_what_a_call_returns(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, found, _ = watched(tmp_path / "tables", network(), last=3, schedule=[0, 3])
    with tensorboard.SummaryWriter(tmp_path / "logs") as writer:
        for step, numbers in found.items():
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert set(events.Tags()["scalars"]) == set(found[0])
    shown = {each.step: each.value for each in events.Scalars("lambda_1/network")}
    assert shown == {step: pytest.approx(found[step]["lambda_1/network"]) for step in (0, 3)}


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
