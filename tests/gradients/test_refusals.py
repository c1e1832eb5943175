"""Networks without per-sample gradients that could be exact are refused, and told why."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.errors import UnsupportedModelError


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(7, 6), torch.arange(7) % 4


class BatchMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.layer(x)
        return self.head(x - x.mean(0))


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x + torch.randn_like(x))


class StochasticDepth(nn.Module):
    """Leaves out its layer for a few samples: most batches do not show it where that is one in a thousand."""

    def __init__(self, draw, left_out=0.001):
        super().__init__()
        self.layer, self.head, self.draw, self.left_out = nn.Linear(6, 6), nn.Linear(6, 4), draw, left_out

    def forward(self, x):
        kept = torch.tensor([[self.draw() > self.left_out] for _ in x]).to(x)
        return self.head(x + kept * self.layer(x).tanh())


@pytest.mark.parametrize("left_out", [0.0, 0.001, 0.5])
@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
def test_a_random_network_is_refused_however_seldom_it_shows(draw, left_out):
    with pytest.raises(UnsupportedModelError, match=r"the network draws random numbers.*call model.eval\(\)"):
        fishertail.gradient_norms(StochasticDepth(draw, left_out), *vectors())


def test_random_generators_are_left_as_they_were():
    following, three = [], StochasticDepth(lambda: random.random() + np.random.rand() + float(torch.rand(())))
    for model in (None, nn.Sequential(nn.Linear(6, 4)), three):
        images, labels = vectors()
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        if isinstance(model, StochasticDepth):
            with pytest.raises(UnsupportedModelError):
                fishertail.gradient_norms(model, images, labels)
        elif model is not None:
            fishertail.fisher_eigenpairs(model, images, labels)
        following.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert following[0] == following[1] == following[2]


class TiedByClosure(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.decoder = lambda h: h @ self.encoder.weight

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x).tanh()))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)), "layer '1': batch normalisation"),
        (nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 4)).eval(), "layer '0': batch norm"),
        (nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 4)), "layer '1': dropout"),
        (BatchMean(), "output of a sample in a batch differs"),
        (Noise(), "the network draws random numbers"),
        (TiedByClosure(), "parameter 'encoder.weight': .* by way of a closure"),
        (nn.ReLU(), "no parameters"),
        (nn.ModuleDict({"network": nn.Linear(6, 4)}), "a layer is named 'network'"),
    ],
)
def test_what_cannot_be_exact_is_refused_with_the_layers_name(model, reason):
    with pytest.raises(UnsupportedModelError, match=reason):
        fishertail.gradient_norms(model, *vectors())
