"""A run with another loss: what its rules train, evaluate and measure is of that loss."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from fishertail.data import dataset
from fishertail.execution import steps
from fishertail.execution.job import Job
from fishertail.grid import config
from fishertail.measurements.measurement import measurements, options_given
from fishertail.results import storage
from fishertail.training.checkpoints import read
from fishertail.training.networks import build
from fishertail.training.schedule import Selection
from tests.truth import dense_gradients

FC = {"hidden_widths": [8] * 4, "loss": "squared_error"}
GRID = config.complete()(datasets=["digits"], models=["fc"], batch_sizes=[20], architectures={"fc": FC})
RUN = GRID.parameters_of(GRID.runs[0])
SAMPLES = 60


def loss(outputs, labels):
    """The truth: torch's own one-hot vector, in float64."""
    return ((outputs - nn.functional.one_hot(labels, 10)) ** 2).sum() / 2


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """A folder with the files of a run that is trained for an epoch and measured at its ends."""
    place = tmp_path_factory.mktemp("run")
    small = replace(digits, train_images=digits.train_images[:SAMPLES], train_labels=digits.train_labels[:SAMPLES])
    files = {"dataset": str(place / "digits.safetensors"), "previous": []}
    dataset.write(small, files["dataset"], {"data": [small.content_hash]})

    def job(**parameters):
        return Job("rule", {"run": RUN} | parameters, 1, "cpu", 1e9, 0, 1)

    trained = {"checkpoints": str(place / "checkpoints.safetensors"), "metrics": str(place / "metrics.csv")}
    steps.train(job(epochs=[0, 1], octaves=False), files, trained)
    for name in ("norms", "spectrum"):
        options = options_given(measurements()[name], GRID.all_options)
        asked = {"measurement": name, "options": options, "checkpoints": asdict(Selection((0, 1), False))}
        outputs = {table.name: str(place / table.file) for table in measurements()[name].tables}
        given = files | trained | {"norms": str(place / "norms.parquet")}
        steps.measure_block(job(epochs=[0, 1], **asked), given, outputs)
    return place, small


@pytest.mark.parametrize("step", [0, 3])
def test_norms_losses_and_the_largest_eigenvalue_are_those_of_a_float64_loop(made, step):
    place, small = made
    model = build.of_run(RUN, small.shape, small.classes)
    model.load_state_dict(read(str(place / "checkpoints.safetensors"), [step])[step])
    inputs, labels = small.training_data()
    truth = dense_gradients(model, inputs, labels, loss)
    norms = storage.read_table(place / "norms.parquet").query("step == @step")
    spectrum = storage.read_table(place / "spectrum.csv").query("step == @step").set_index("layer")["eigenvalue"]
    for layer, gradients in truth.items():
        np.testing.assert_allclose(norms[layer], np.linalg.norm(gradients, axis=1), rtol=1e-4, atol=1e-7)
        largest = np.linalg.norm(gradients, 2) ** 2 / SAMPLES
        assert spectrum[layer] == pytest.approx(largest, rel=1e-3)
    outputs = model.double()(inputs.double()).detach()
    expected = [float(loss(*pair)) for pair in zip(outputs.split(1), labels.split(1), strict=True)]
    np.testing.assert_allclose(norms["loss"], expected, rtol=1e-5)
    metrics = storage.read_table(place / "metrics.csv").set_index("step").loc[step]
    assert metrics["train_loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    correct = float((outputs.argmax(1) == labels).double().mean())
    assert metrics["train_accuracy"] == pytest.approx(correct)
    assert norms["correct"].mean() == pytest.approx(correct)
    assert torch.isfinite(outputs).all()
