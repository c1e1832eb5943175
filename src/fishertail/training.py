"""Plain SGD by blocks of epochs: the weights after an epoch are the whole state.

Everything random in epoch e is drawn from (seed, e) alone, so that a run is bit-identical whatever its block size and
however often it was interrupted, at a fixed number of threads.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import torch
from torch import nn
from tqdm import tqdm

from fishertail.errors import DivergedError
from fishertail.gradients.cross_entropy import losses_of
from fishertail.metrics import Metrics
from fishertail.models import stream

if TYPE_CHECKING:
    from fishertail.data.dataset import Dataset

EVALUATION_BATCH = 100  # activations of a batch should stay in cache


def train_epoch(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    epoch: int,
) -> None:
    """One epoch of plain SGD, W <- W - rate * mean gradient of a minibatch (eq. 2), in place.

    Args:
        images: (N, ...) on the model's device. The last minibatch is smaller where batch_size does not divide N.
        labels: (N,).
        seed, epoch: determine the order of the samples, and whatever the model draws itself (dropout).
    """
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, foreach=True)
    generator = torch.Generator().manual_seed(stream(seed, epoch))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    own = [] if images.device.type == "cpu" else [images.device]
    with torch.random.fork_rng(devices=own, device_type=images.device.type):
        torch.manual_seed(stream(seed, epoch))
        for batch in order.split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def evaluate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean cross entropy (summed in float64) and accuracy over all samples, in eval mode."""
    model.eval()
    loss, correct = 0.0, 0
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        logits = model(x)
        loss += float(losses_of(logits, y).sum())
        correct += int((logits.argmax(1) == y).sum())
    return loss / len(images), correct / len(images)


def train_block(
    model: nn.Module,
    dataset: "Dataset",
    epochs: Sequence[int],
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str = "cpu",
    name: str = "run",
) -> Iterator[tuple[int, Metrics, dict[str, torch.Tensor]]]:
    """Train `model` in place; yield epoch, metrics and a copy of the weights after each of `epochs`.

    Epoch 0, where it is among them, is the model as it came.

    Raises:
        DivergedError: the training loss is not finite after an epoch.
    """
    model.to(device, memory_format=torch.channels_last)
    training, validation = dataset.training_data(device), dataset.validation_data(device)
    training, validation = (_channels_last(*training), _channels_last(*validation))
    for epoch in tqdm(epochs, desc=name, unit="epoch"):
        if epoch > 0:
            train_epoch(model, *training, batch_size=batch_size, learning_rate=learning_rate, seed=seed, epoch=epoch)
        metrics = Metrics(*evaluate(model, *training), *evaluate(model, *validation))
        if not all(map(math.isfinite, astuple(metrics))):
            raise DivergedError(
                f"{name}: the loss is not finite after epoch {epoch} at learning rate {learning_rate}; "
                "a smaller rate is needed (architectures.MODEL.learning_rate)"
            )
        yield epoch, metrics, {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _channels_last(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in the memory format in which convolutions are fastest on CPUs and on GPUs with tensor cores."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images, labels


def train_run(
    model: nn.Module, dataset: "Dataset", epochs: Sequence[int], run: Mapping, device: str = "cpu"
) -> Iterator[tuple[int, Metrics, dict[str, torch.Tensor]]]:
    """`train_block` with what a run of the grid says: its batch size, seed and architecture's learning rate."""
    return train_block(
        model,
        dataset,
        epochs,
        batch_size=run["batch_size"],
        learning_rate=run["architecture"]["learning_rate"],
        seed=run["seed"],
        device=device,
        name=f"{run['dataset']}-{run['model']}, batch size {run['batch_size']}, seed {run['seed']}",
    )
