"""A network measured while it trains: what is measured, that training does not notice, and restarts."""

import json
import random
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fishertail
from fishertail.errors import StorageError
from fishertail.execution.live.schedule import steps_of
from fishertail.measurements.measurement import measurements
from fishertail.results import storage
from tests.execution.watching import MEASURED, Training, network, samples, table, watched
from tests.truth import dense_gradients
from tests.workflow.project import ROOT


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
    for given in (np.arange(0, 30, 10), torch.tensor([0, 10, 20]), iter([np.int64(0), 10, 20]), range(0, 30, 10)):
        steps = steps_of(given)
        assert [step for step in range(100) if step in steps] == [0, 10, 20]
    for wrong in ("all", "0 per octave", "every 0", [], [-1], [1.5], [True], np.arange(2.0), [0, "1"], 5, None):
        with pytest.raises(ValueError, match=r"schedule: .* expected, found"):
            steps_of(wrong)


def test_steps_and_options_are_whole_numbers_of_any_kind(tmp_path):
    model, options = network(), {"subset": np.int64(9), "seed": np.int64(2), "steps_per_epoch": np.int64(4)}
    for _ in range(2):
        given = {"schedule": "every 2", "learning_rate": np.float32(0.5), "device": "cpu", **options}
        watch = fishertail.Watch(model, *samples(), folder=tmp_path, **given)
    measured = [step for step in np.arange(3) if watch(step)]
    measured += [step for step in (torch.tensor(3), torch.tensor(4), np.int32(10**9), np.uint8(6)) if watch(step)]
    assert [int(step) for step in measured] == [0, 2, 4, 10**9, 6]
    assert table(tmp_path, "metrics.csv")["step"].tolist() == [0, 2, 4, 6, 10**9]
    assert json.loads((tmp_path / "watch.json").read_text())["steps"] == [0, 2, 4, 6, 10**9]
    assert not (tmp_path / "failures.csv").exists()


def test_the_loss_of_samples_one_of_which_has_none_is_that_of_torch(tmp_path):
    model, (images, labels) = network().eval(), samples()
    images[3, 0] = float("nan")
    fishertail.Watch(model, images, labels, folder=tmp_path, measurements=["norms"], device="cpu")(0)
    assert nn.functional.cross_entropy(model(images), labels).isnan()
    (row,) = table(tmp_path, "metrics.csv").to_dict("records")
    assert np.isnan(row["train_loss"])
    assert row["train_accuracy"] == pytest.approx((model(images).argmax(1) == labels).double().mean().item())


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


def test_a_second_training_into_a_folder_is_told_that_it_is_not_measured(tmp_path):
    watched(tmp_path, network(), last=2)
    again = fishertail.Watch(network(), *samples(), folder=tmp_path, measurements=MEASURED)
    with pytest.warns(UserWarning, match="step 0: measured by an earlier start, .* needs a folder of its own") as said:
        assert again(0) == again(1) == again(0) == {}
    assert [Path(each.filename).name for each in said] == ["test_watch.py"]


def test_a_restart_from_later_weights_is_no_reason_to_warn(tmp_path):
    watched(tmp_path, network(), last=2)
    again = fishertail.Watch(network(), *samples(), folder=tmp_path, measurements=MEASURED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again(2) == {}


def test_a_folder_of_another_run_is_refused(tmp_path):
    model, (images, labels) = network(), samples()
    watched(tmp_path, model, last=0)
    for what, other in {
        "model": {"model": nn.Linear(6, 3)},
        "modules": {"model": nn.Sequential(*(nn.Tanh() if isinstance(m, nn.ReLU) else m for m in model))},
        "data": {"images": images + 1},
        "measurements.outliers.threshold": {"threshold": 5},
        "measurements.fit": {"measurements": (*MEASURED, "fit")},
        "loss": {"loss": lambda outputs, targets: outputs.square().sum()},
        "learning_rate": {"learning_rate": 0.1},
        "steps_per_epoch": {"steps_per_epoch": 3},
        "samples": {"subset": 5},
    }.items():
        given = {"model": model, "images": images, "labels": labels, "measurements": MEASURED, **other}
        with pytest.raises(StorageError, match=f"a run with {what if what != 'samples' else 'data'}.* expected"):
            fishertail.Watch(**given, folder=tmp_path, device="cpu")
    (tmp_path / "watch.json").unlink()
    with pytest.raises(StorageError, match=r"an empty folder, or one with watch\.json, expected, found"):
        fishertail.Watch(model, images, labels, folder=tmp_path, device="cpu")


def test_a_loss_with_other_parameters_is_another_loss(tmp_path):
    smoothed = {share: nn.CrossEntropyLoss(label_smoothing=share) for share in (0.1, 0.9)}
    watched(tmp_path, network(), last=0, loss=smoothed[0.1])
    with pytest.raises(StorageError, match=r"a run with loss_content .* expected"):
        watched(tmp_path, network(), last=0, loss=smoothed[0.9])
    again, _, _ = watched(tmp_path, network(), last=0, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    assert again.analysis().spectrum["step"].unique().tolist() == [0]


def test_a_folder_of_an_earlier_version_goes_on_where_what_it_says_agrees(tmp_path):
    _, _, training = watched(tmp_path, network(), last=0, schedule=[0, 1])
    manifest = json.loads((tmp_path / "watch.json").read_text())
    later = ("modules", "loss_content", "learning_rate")
    earlier = {name: each for name, each in manifest.items() if name not in later}
    (tmp_path / "watch.json").write_text(json.dumps(earlier))
    with pytest.raises(StorageError, match=r"a run with data .* expected"):
        fishertail.Watch(network(), samples()[0] + 1, samples()[1], folder=tmp_path, measurements=MEASURED)
    watched(tmp_path, training.model, last=1, first=0, schedule=[0, 1])
    assert table(tmp_path, "metrics.csv")["step"].tolist() == [0, 1]
    assert json.loads((tmp_path / "watch.json").read_text()) == {**manifest, "steps": [0, 1]}


def test_a_folder_without_a_step_is_of_no_run_yet(tmp_path):
    watched(tmp_path, network(), last=0, schedule=[5])
    watched(tmp_path, network(), last=0, schedule=[0], loss=lambda outputs, _: outputs.sum())
    assert table(tmp_path, "metrics.csv")["step"].tolist() == [0]


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


def test_the_keys_of_what_a_call_returns_are_on_the_page(tmp_path):
    _, found, _ = watched(tmp_path, network(), last=1, schedule=[0, 1], measurements=list(measurements()))
    rows = re.findall(r"^\| `.*\| (`[\w/]+`.*) \|$", (ROOT / "docs/how-to/live.md").read_text(), re.MULTILINE)
    listed = [key for row in rows for key in re.findall(r"`([\w/]+)`", row)]
    patterns = {key: key.replace("LAYER", r"\w+").replace("COLUMN", r"\w+") for key in listed}
    assert not [key for key in found[1] if not any(re.fullmatch(pattern, key) for pattern in patterns.values())]
    assert not [key for key, pattern in patterns.items() if not any(re.fullmatch(pattern, each) for each in found[1])]


def test_a_subset_of_fewer_samples_is_that_of_another_run(tmp_path):
    given = {"folder": tmp_path, "subset": 10, "seed": 5, "schedule": [0, 1], "device": "cpu"}
    fishertail.Watch(network(), *samples(), **given)(0)
    with pytest.raises(StorageError, match=r"a run with data .* expected"):
        fishertail.Watch(network(), *samples(12), **given)


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
