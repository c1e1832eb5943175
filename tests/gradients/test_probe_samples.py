"""The samples that the probe takes."""

import pytest
import torch
from torch import nn

from fishertail.gradients.inputs import samples_of
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.probe_samples import probe_inputs


@pytest.mark.parametrize("samples", [1, 2, 3, 40, 2**24 + 4])
def test_samples_of_the_probe_lie_within_the_data(samples):
    """2**24 + 4 is more than float32 can count."""
    images, labels = torch.ones(1, 2).expand(samples, 2), torch.zeros(1, dtype=torch.uint8).expand(samples)
    with GradientMatrix(nn.Linear(2, 3), images, labels, loss=nn.MultiMarginLoss()) as matrix:
        assert matrix.output_shape == (3,)


@pytest.mark.parametrize(
    ("lengths", "order"),
    [([4, 4, 4, 4], [0, 1, 3]), ([1, 2, 3, 4], [3, 0, 2]), ([4, 4, 4, 1], [2, 3, 1]), ([4, 1, 1, 1], [1, 0, 3])],
)
def test_the_probe_takes_samples_of_several_lengths_in_no_order(lengths, order):
    samples = torch.tensor([[10 * (n + 1)] * length + [0] * (4 - length) for n, length in enumerate(lengths)])
    torch.testing.assert_close(probe_inputs(samples_of(samples, torch.zeros(4))), samples[order])
