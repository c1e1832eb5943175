"""The validation loss and accuracy, for every way in which models take and give something."""

import pytest
import torch
from torch import nn

from fishertail.execution.command_line.validation import validated

IMAGES, LABELS = torch.randn(600, 4, generator=torch.Generator().manual_seed(0)), torch.arange(600) % 3


class Named(nn.Module):
    """Takes its inputs by name, and gives a mapping."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, left, right):
        return {"logits": self.layer(left + right)}


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double()


def test_batches_are_uneven_and_dropout_is_off(layer):
    found = validated(layer, IMAGES.double(), LABELS)
    outputs = layer.eval()(IMAGES.double())
    assert found["validation_loss"] == pytest.approx(nn.functional.cross_entropy(outputs, LABELS).item(), rel=1e-12)
    assert found["validation_accuracy"] == (outputs.argmax(1) == LABELS).double().mean().item()


def test_inputs_by_name_or_in_a_tuple_and_outputs_in_a_mapping(layer):
    halves = IMAGES.double() / 2
    expected = validated(layer, IMAGES.double(), LABELS)
    assert validated(Named(layer), {"left": halves, "right": halves}, LABELS) == pytest.approx(expected)
    assert validated(Named(layer), (halves, halves), LABELS) == pytest.approx(expected)


def test_a_loss_of_ones_own_has_no_accuracy(layer):
    targets = torch.randn(600, 3, generator=torch.Generator().manual_seed(1)).double()
    found = validated(layer, IMAGES.double(), targets, loss=nn.functional.mse_loss)
    assert found == {"validation_loss": pytest.approx(nn.functional.mse_loss(layer(IMAGES.double()), targets).item())}


def test_one_sample(layer):
    assert validated(layer, IMAGES[:1].double(), LABELS[:1])["validation_accuracy"] in (0, 1)
