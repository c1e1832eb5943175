"""The losses by which networks are trained and evaluated, and which of them the parameters of a run name."""

from typing import get_args

import pandas as pd
import pytest
import torch
from torch import nn

from fishertail.grid import config
from fishertail.results import archive, of_run, storage
from fishertail.training import sgd
from fishertail.training.losses import CROSS_ENTROPY, LOSSES, loss_of_run
from fishertail.training.networks import build
from fishertail.training.networks.network import DEFAULT_LOSS, LossName

SMALL = {"hidden_widths": [16] * 4}


def grid(**architecture):
    return config.complete()(
        datasets=["digits"], models=["fc"], batch_sizes=[100], architectures={"fc": SMALL | architecture}
    )


def parameters(**architecture):
    made = grid(**architecture)
    return made.parameters_of(made.runs[0])


def test_every_name_in_the_configuration_has_its_loss():
    assert set(LOSSES) == set(get_args(LossName))
    assert LOSSES[DEFAULT_LOSS] is CROSS_ENTROPY


def test_the_parameters_of_a_run_name_its_loss_only_where_it_is_not_the_default():
    assert parameters() == parameters(loss="cross_entropy")
    assert set(parameters()["architecture"]) == {"learning_rate", "hidden_widths", "initialisation"}
    assert parameters(loss="squared_error")["architecture"]["loss"] == "squared_error"
    assert loss_of_run(parameters()) is CROSS_ENTROPY
    assert loss_of_run(parameters(loss="squared_error")) is LOSSES["squared_error"]


def test_a_factory_names_it_alike():
    mine = {"factory": "fishertail.training.networks.fc:fc", "arguments": SMALL, "learning_rate": 0.1}
    mine["figure_layer"] = "fc4"
    for loss, named in ((None, set()), ("cross_entropy", set()), ("squared_error", {"loss"})):
        mine |= {} if loss is None else {"loss": loss}
        made = config.complete()(models=["mine"], architectures={"mine": mine})
        keys = set(made.parameters_of(made.runs[0])["architecture"])
        assert keys == {"factory", "arguments", "learning_rate"} | named


def test_a_run_kept_before_there_was_another_loss_is_taken_and_only_by_cross_entropy(tmp_path):
    run = {"dataset": "digits", "model": "fc", "batch_size": 100, "seed": 0}
    old = run | {"architecture": {"learning_rate": 0.05, **SMALL, "initialisation": "lecun_normal"}}
    record = {"parameters": {"run": old, "blocks": [[0, 1, 2]]}} | of_run.identity(run)
    storage.write_table(pd.DataFrame({"step": [0]}), tmp_path / "metrics.csv", record)
    assert list(archive.faults(tmp_path, parameters(), 2)) == []
    (fault,) = archive.faults(tmp_path, parameters(loss="squared_error"), 2)
    assert fault.startswith(f"{tmp_path}: trained with architecture ")


def error(outputs, labels):
    """Half the squared distance from the one-hot label, summed over the classes, averaged over the samples."""
    return ((outputs - nn.functional.one_hot(labels, outputs.shape[1])) ** 2).sum(1).mean() / 2


def test_sgd_follows_the_squared_error(digits):
    """Against a loop with torch's own one-hot vectors, in the same order of samples."""
    run = parameters(loss="squared_error")
    (_, found) = sgd.train_run(build.of_run(run, digits.shape, digits.classes), digits, [0, 1], run)
    model = build.of_run(run, digits.shape, digits.classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, foreach=True)
    images, labels = digits.training_data()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(build.stream(0, 1)))
    for batch in order.split(100):
        optimizer.zero_grad()
        error(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    for key, weight in model.state_dict().items():
        torch.testing.assert_close(found.weights[key], weight, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        for split, data in (("train", digits.training_data()), ("validation", digits.validation_data())):
            outputs = model(data[0])
            expected = float(error(outputs, data[1]))
            assert getattr(found.metrics, f"{split}_loss") == pytest.approx(expected, rel=1e-5)
            accuracy = float((outputs.argmax(1) == data[1]).double().mean())
            assert getattr(found.metrics, f"{split}_accuracy") == pytest.approx(accuracy)
