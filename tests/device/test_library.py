"""The library and training on a simulated accelerator: tensors stay on their device, and the numbers are the CPU's."""

import numpy as np
import pandas as pd
import pytest

from fishertail.errors import UnsupportedModelError
from tests.device import computing
from tests.device.simulated import FREE_MEMORY, NAME
from tests.gradients.layers import CASES

NETWORKS = ["fc", "conv", "tokens", "replayed"]


def same(expected, found) -> None:
    assert found.layers == expected.layers
    assert np.allclose(found.per_layer, expected.per_layer, rtol=1e-5, atol=1e-6 * expected.per_layer.max())
    assert np.allclose(found.loss, expected.loss, rtol=1e-6)
    assert np.array_equal(found.correct, expected.correct)


@pytest.mark.parametrize("place", computing.PLACES)
@pytest.mark.parametrize("name", NETWORKS)
def test_norms(there, name, place):
    same(*there(computing.norms, name, place))


# moving a script needs Parameters whose data can be set to a device's, and DataParallel a build of torch for CUDA
IMPOSSIBLE = ("scripted", "data parallel")


@pytest.mark.slow  # together
@pytest.mark.parametrize("case", [case for case in CASES if case not in IMPOSSIBLE])
def test_norms_of_every_kind_of_layer(there, case):
    same(*there(computing.norms_of_case, case))


@pytest.mark.parametrize("place", computing.PLACES)
@pytest.mark.parametrize("name", NETWORKS)
def test_eigenpairs(there, name, place):
    expected, found = there(computing.eigenpairs, name, place)
    for layer, values in expected.items():
        assert np.allclose(found[layer], values, rtol=1e-4, atol=1e-5 * values.max()), layer


def test_a_script_that_cannot_be_moved(there):
    with pytest.raises(UnsupportedModelError, match="cannot be copied to another device"):
        there(computing.norms_of_case, "scripted")


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_a_budget_that_keeps_few_rows(there, name):
    expected, found = there(computing.eigenpairs, name, "model and data", memory_budget=150_000, batch_size=7)
    for layer, values in expected.items():
        assert np.allclose(found[layer], values, rtol=1e-4), layer


def test_autocast_around_the_call_and_a_plugin_without_it(there):
    expected, *found = there(computing.norms_in_and_without_autocast)
    for norms in found:
        same(expected, norms)


@pytest.mark.parametrize(("name", "dropout"), [("fc", False), ("conv", False), ("fc", True)])
def test_training(there, name, dropout):
    expected, weights, _ = there(computing.trained, name, "cpu", dropout)
    metrics, of_device, as_before = there(computing.trained, name, NAME, dropout)
    assert as_before
    assert [m.train_accuracy for m in metrics] == [m.train_accuracy for m in expected]
    assert np.allclose([m.validation_loss for m in metrics], [m.validation_loss for m in expected], rtol=1e-5)
    for key, tensor in weights.items():
        assert np.allclose(of_device[key], tensor, rtol=1e-4, atol=1e-5), key


def test_checkpoints_inside_epochs_change_no_weights(there):
    _, expected, _ = there(computing.trained, "fc", NAME, True)
    metrics, weights, as_before = there(computing.trained, "fc", NAME, True, True)
    assert as_before
    assert len(metrics) == 3 + 6  # 1, 2, 4, 8, 16 and 32 of the 2 * 23 steps
    assert all(np.array_equal(weights[key], tensor) for key, tensor in expected.items())


@pytest.mark.parametrize(("device", "jobs"), [(NAME, 1), ("auto", 1), (NAME, 2)])
def test_analyse_run(there, device, jobs, tmp_path):
    options = {"cluster": "local", "jobs": jobs, "folder": tmp_path} if jobs > 1 else {}
    expected, found = there(computing.analysed, "cpu"), there(computing.analysed, device, **options)
    for name in ("norms", "outliers", "projections"):
        pd.testing.assert_frame_equal(found[name], expected[name], rtol=1e-4, atol=1e-5, obj=name)
    assert np.allclose(found["spectrum"]["eigenvalue"], expected["spectrum"]["eigenvalue"], rtol=1e-4)


def test_what_is_asked_of_a_device_besides(there):
    facts = there(computing.facts)
    assert facts["auto"] == NAME
    assert facts["budget"] == FREE_MEMORY / 2
    assert facts["machine"]["gpu"] == "Simulated accelerator"
    assert "cuda" not in facts["machine"]
    assert facts["model is not copied"]
    assert facts["index"] == f"{NAME}:0"


def test_a_device_without_float64(there):
    taken, warning, fault = there(computing.without_float64)
    assert taken == "cpu"
    assert warning == f"device: auto takes the CPU, since {NAME} has no float64, in which losses and norms are computed"
    assert fault.startswith(
        f"DeviceError: device: a device with float64 expected, found '{NAME}', which has no float64"
    )


def test_a_second_device_where_there_is_one(there):
    fault = there(computing.fault, f"{NAME}:1")
    assert fault == (f"NodeError: device: a device that torch finds here (cpu, {NAME}:0) expected, found '{NAME}:1'")
