"""The library and training on a simulated accelerator: no tensors of two devices meet, and the numbers are the CPU's."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("case", CASES)
def test_norms_of_every_kind_of_layer(there, case):
    same(*there(computing.norms_of_case, case))


@pytest.mark.parametrize("place", computing.PLACES)
@pytest.mark.parametrize("name", NETWORKS)
def test_eigenpairs(there, name, place):
    expected, found = there(computing.eigenpairs, name, place)
    for layer, values in expected.items():
        assert np.allclose(found[layer], values, rtol=1e-4, atol=1e-5 * values.max()), layer
