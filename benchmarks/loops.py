"""Training: the loop of fishertail, the one most users would write, and a bare one, over the same samples."""

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.problems import Problem
from fishertail.training import sgd


class _Images(Dataset):
    """What torchvision's MNIST and CIFAR10 do for a sample: a PIL image of stored pixels, turned into a tensor."""

    def __init__(self, problem: Problem):
        pixels = (problem.images.cpu() * 255).round().byte().permute(0, 2, 3, 1)
        self._pixels = pixels.squeeze(3).numpy()
        self._labels = problem.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int):
        pixels = np.array(Image.fromarray(self._pixels[index]))
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(torch.float32).div(255), self._labels[index]


def data_loader(problem: Problem, batch_size: int, rate: float) -> None:
    """What most users would write: a DataLoader with two workers, the loss read at every step."""
    device = problem.images.device
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=rate)
    total = 0.0
    for x, y in DataLoader(_Images(problem), batch_size, shuffle=True, num_workers=2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(problem.model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()


def bare(problem: Problem, batch_size: int, rate: float) -> None:
    """Resident tensors in order, nothing recorded, weights updated in place; convolutions in channels-last."""
    parameters = list(problem.model.parameters())
    for x, y in zip(problem.images.split(batch_size), problem.labels.split(batch_size), strict=True):
        loss = nn.functional.cross_entropy(problem.model(x), y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-rate)


def fishertail(problem: Problem, batch_size: int, rate: float) -> None:
    options = {"batch_size": batch_size, "learning_rate": rate, "seed": 0, "epoch": 1}
    sgd.train_epoch(problem.model, problem.images, problem.labels, **options)


LOOPS = {"fishertail": fishertail, "bare loop": bare, "DataLoader loop": data_loader}
