"""The checkpoints that are measured on: the networks of config.yaml, trained on the real data and kept."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fishertail.data import loading
from fishertail.data.dataset import Dataset
from fishertail.grid import config
from fishertail.results.run import Block
from fishertail.training import checkpoints, sgd
from fishertail.training.networks import build
from fishertail.training.schedule import steps_per_epoch

KEPT = Path("benchmarks/results/checkpoints")
DATASETS = {"fc": "mnist", "conv": "cifar10"}
BATCH_SIZE = 16
WIDTHS = [125, 250, 500, 1000, 2000]  # of the networks fc125, fc250, ..., for the cost against P
WIDTHS_SAMPLES, WIDTHS_EPOCH = 5000, 1  # that these are measured on


@dataclass(frozen=True)
class Problem:
    """A network at a checkpoint, and training samples; the loss of one is its mean cross entropy over positions."""

    model: nn.Module
    images: torch.Tensor  # (N, C, H, W), or tokens (N, T)
    labels: torch.Tensor  # (N,), or (N, T)
    batch_size: int = 500  # of the peers
    gradients_batch_size: int = 50  # of peers that hold the gradients of a batch; one of fc is 4.6 MB

    def copied_model(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def batches(self, size: int | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        size = size or self.batch_size
        return list(zip(self.images.split(size), self.labels.split(size), strict=True))


def mean_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy, the mean over samples (and positions); classes last."""
    return nn.functional.cross_entropy(outputs.flatten(0, -2), labels.flatten())


def train(name: str, epochs: list[int], data_dir: str, device: str = "cpu") -> None:
    """Keep the weights after each of `epochs` at batch size 16, unless they are at hand."""
    if all(_path(name, epoch).exists() for epoch in epochs):
        return
    options, data = _architecture(name), _dataset(name, data_dir)
    model = build.build(base(name), options, data.shape, data.classes, 0)
    how = {"batch_size": BATCH_SIZE, "learning_rate": options["learning_rate"], "seed": 0, "device": device}
    wanted = {_step(data, epoch): epoch for epoch in epochs}
    for at in sgd.train_block(model, data, Block(1, max(*epochs, 1)), **how, name=name):
        if at.step in wanted:
            path = _path(name, wanted.pop(at.step))
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.write({at.step: at.weights}, str(path), {})
        if not wanted:
            return


def load(name: str, epoch: int, samples: int | None, data_dir: str, device: str) -> Problem:
    """The network after `epoch` epochs, and some of its training samples, at random; all if None."""
    data = _dataset(name, data_dir)
    model = build.build(base(name), _architecture(name), data.shape, data.classes, 0)
    step = _step(data, epoch)
    model.load_state_dict(checkpoints.read(str(_path(name, epoch)), [step])[step])
    images, labels = data.training_data(device)
    if samples is not None:
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:samples].to(device)
        images, labels = images[chosen], labels[chosen]
    return Problem(model.to(device).eval(), images, labels)


def base(name: str) -> str:
    """fc or conv: the architecture that a network is of."""
    return name.rstrip("0123456789")


def _architecture(name: str) -> dict:
    options = config.default().architecture(base(name)).model_dump()
    width = name.removeprefix(base(name))
    return options | {"hidden_widths": [int(width)] * len(options["hidden_widths"])} if width else options


def _dataset(name: str, data_dir: str) -> Dataset:
    return loading.load(DATASETS[base(name)], data_dir)


def _step(data: Dataset, epoch: int) -> int:
    """The SGD step at the end of an epoch."""
    return epoch * steps_per_epoch(len(data.train_labels), BATCH_SIZE)


def _path(name: str, epoch: int) -> Path:
    return KEPT / f"{name}-epoch{epoch:04d}.safetensors"
