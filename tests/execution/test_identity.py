"""What decides the numbers of a run, told by names and hashes that are the same in every process."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fishertail.execution.live import identity as module
from fishertail.execution.live.identity import _content, _functions
from tests.docs.code_blocks import ROOT


def test_a_loss_has_one_name_in_all_processes():
    def half(outputs, targets, weight):
        return weight * outputs.sum()

    assert module._name(functools.partial(half, weight=0.5)) == module._name(functools.partial(half, weight=0.5))
    assert "0x" not in module._name(functools.partial(half, weight=0.5))
    assert module._name(functools.partial(half, weight=0.5)) != module._name(functools.partial(half, weight=0.6))
    assert module._name(nn.MSELoss()) == "MSELoss()"


def scaled(factor, kind=float):
    return lambda outputs, targets: kind(factor) * outputs.sum()


def smoothed(outputs, targets, smoothing=0.1):
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=smoothing)


class Focal:
    def __init__(self, gamma):
        self.gamma = gamma

    def __call__(self, outputs, targets):
        return (outputs.softmax(1) ** self.gamma).sum()


class Learned(nn.Module):
    def __init__(self, width, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.width = nn.Linear(3, 3), width

    def forward(self, outputs, targets):
        return self.layer(outputs).sum() * self.width


class Trainer:
    """Holds a network and counts, as the owner of a loss may."""

    def __init__(self, steps):
        self.steps, self.network = steps, Learned(1, steps)

    def loss(self, outputs, targets):
        return outputs.sum()


def around(network):
    return lambda outputs, targets: outputs.sum() + 0.1 * sum(each.square().sum() for each in network.parameters())


def of_parameters(network):
    parameters = list(network.parameters())
    return lambda outputs, targets: outputs.sum() + 0.1 * sum(each.square().sum() for each in parameters)


DIFFERENT = {
    "lambdas": (lambda outputs, targets: outputs.sum(), lambda outputs, targets: outputs.mean()),
    "constants": (lambda outputs, targets: 2 * outputs.sum(), lambda outputs, targets: 3 * outputs.sum()),
    "nested": (lambda o, t: sum(x for x in (lambda: o)()), lambda o, t: sum(x for x in (lambda: -o)())),
    "what they enclose": (scaled(1), scaled(2)),
    "enclosed tensors": (scaled(torch.ones(2), torch.sum), scaled(torch.zeros(2), torch.sum)),
    "enclosed arrays": (scaled(np.ones(2), np.sum), scaled(np.zeros(2), np.sum)),
    "an enclosed module": (scaled(nn.NLLLoss(ignore_index=1), id), scaled(nn.NLLLoss(ignore_index=2), id)),
    "defaults": (lambda o, t, share=0.1: o.sum(), lambda o, t, share=0.9: o.sum()),
    "arguments": (functools.partial(smoothed, smoothing=0.1), functools.partial(smoothed, smoothing=0.9)),
    "attributes": (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.9)),
    "buffers": (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.zeros(3))),
    "weights": (Learned(1), Learned(1, seed=1)),
    "numbers of a module": (Learned(1), Learned(2)),
    "objects": (Focal(1), Focal(2)),
    "their names": (nn.functional.mse_loss, nn.functional.l1_loss),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_losses_that_differ(case):
    one, other = DIFFERENT[case]
    assert _content(one) != _content(other)
    assert _content(one) == _content(one)


SAME = {
    "a module": lambda: nn.CrossEntropyLoss(torch.arange(3.0), label_smoothing=0.1),
    "a method": lambda: Focal(2).__call__,
    "a lambda": lambda: scaled({"a", "b", "c"}, len),
    "a constant set": lambda: lambda outputs, targets: outputs.sum() if "a" in {"a", "b", "c"} else 0,
    "torch's": lambda: nn.functional.huber_loss,
}


def hashes():
    return {name: module._hash(_content(each())) for name, each in SAME.items()}


def test_losses_are_told_the_same_way_in_every_process():
    command = [sys.executable, "-c", "from tests.execution import test_identity; print(test_identity.hashes())"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(hashes())


def test_what_changes_with_training_does_not_count():
    assert _content(Trainer(1).loss) == _content(Trainer(2).loss)
    assert _content(around(Learned(1))) == _content(around(Learned(1, seed=1)))
    assert _content(of_parameters(Learned(1))) == _content(of_parameters(Learned(1, seed=1)))


def test_a_function_in_an_attribute_of_a_model_counts():
    class Net(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.activation = activation

    found = [_functions(nn.Sequential(Net(each))) for each in (nn.functional.relu, torch.tanh, lambda x: x, abs)]
    assert len({str(each) for each in found}) == 4
    assert "0x" not in str(found)


def test_a_function_that_holds_itself_has_an_end():
    def loss(outputs, targets, depth=0):
        return loss(outputs, targets, 1) if depth == 0 else outputs.sum()

    assert "itself" in str(_content(loss))
