"""A small network, its training and its watch, for the tests of watching."""

import random

import numpy as np
import torch
from torch import nn

import fishertail
from fishertail.results import storage

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
