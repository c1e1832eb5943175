"""Plain SGD by blocks of epochs: the weights after an epoch are the whole state.

Everything random in epoch e is drawn from (seed, e) alone, so that a run is bit-identical whatever its block size and
however often it was interrupted, at a fixed number of threads. Looking at the weights inside an epoch changes nothing.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm import tqdm

from fishertail.errors import DivergedError
from fishertail.results.run import Block
from fishertail.training.checkpoints import Weights
from fishertail.training.losses import CROSS_ENTROPY, TrainingLoss, loss_of_run
from fishertail.training.metrics import Metrics
from fishertail.training.networks.build import of_run, stream
from fishertail.training.precision import DEFAULT_PRECISION, PrecisionName, precision_of_run
from fishertail.training.schedule import Selection, steps_per_epoch

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
    loss: TrainingLoss = CROSS_ENTROPY,
    precision: PrecisionName = DEFAULT_PRECISION,
    look: Callable[[int], None] | None = None,
    at: Collection[int] = (),
) -> None:
    """One epoch of plain SGD, W <- W - rate * mean gradient of a mini-batch (eq. 2), in place.

    Args:
        images: (N, ...) on the model's device. The last mini-batch is smaller where batch_size does not divide N.
        labels: (N,).
        seed, epoch: determine the order of the samples, and whatever the model draws itself (dropout).
        loss: whose mean over a mini-batch is followed.
        precision: of products and convolutions; weights, losses and updates are in float32.
        look: called with the number of steps taken in this epoch, after each of `at`.
        at: steps of this epoch, from 1 on.
    """
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, foreach=True)
    generator = torch.Generator().manual_seed(stream(seed, epoch))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    with _own_randomness(images.device):
        torch.manual_seed(stream(seed, epoch))
        for step, batch in enumerate(order.split(batch_size), start=1):
            optimizer.zero_grad()
            loss.mean(_outputs(model, images[batch], precision), labels[batch]).backward()
            optimizer.step()
            if look is not None and step in at:
                with _own_randomness(images.device):
                    look(step)
                model.train()


def _own_randomness(device: torch.device) -> Any:
    """A context that leaves the generators of the CPU and of `device` as they were."""
    own = [] if device.type == "cpu" else [device]
    return torch.random.fork_rng(devices=own, device_type=device.type)


def _outputs(model: nn.Module, images: torch.Tensor, precision: PrecisionName) -> torch.Tensor:
    if precision == "float32":
        return model(images)  # type: ignore[no-any-return]
    with torch.autocast(images.device.type, torch.bfloat16):
        outputs = model(images)
    return outputs.float()  # type: ignore[no-any-return]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: TrainingLoss = CROSS_ENTROPY,
    precision: PrecisionName = DEFAULT_PRECISION,
) -> tuple[float, float]:
    """Mean loss (summed in float64) and accuracy over all samples, in eval mode."""
    model.eval()
    total, correct = 0.0, 0
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        outputs = _outputs(model, x, precision)
        total += float(loss.of_samples(outputs, y).sum())
        correct += int((outputs.argmax(1) == y).sum())
    return total / len(images), correct / len(images)


@dataclass(frozen=True)
class Trained:
    """The network after some SGD steps."""

    step: int
    metrics: Metrics
    weights: Weights  # on the CPU


def train_block(
    model: nn.Module,
    dataset: "Dataset",
    block: Block,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    loss: TrainingLoss = CROSS_ENTROPY,
    precision: PrecisionName = DEFAULT_PRECISION,
    octaves: bool = False,
    device: str = "cpu",
    name: str = "run",
    made_again: Callable[[Weights], nn.Module] | None = None,
) -> Iterator[Trained]:
    """Train `model` in place for the epochs of a block; yield its state at each checkpoint.

    Checkpoints are the ends of the epochs, step 0 in the first block, and with `octaves` those inside the first two
    epochs.

    Args:
        made_again: called with the weights after an epoch, gives the network that the next one trains in place of
            `model`: for a network that may hold more than its weights, such as a counter or a buffer that is not saved.

    Raises:
        DivergedError: a loss is not finite at a checkpoint.
    """
    _place(model, device)
    training = _channels_last(*dataset.training_data(device))
    validation = _channels_last(*dataset.validation_data(device))
    per_epoch = steps_per_epoch(len(dataset.train_labels), batch_size)
    steps = Selection(tuple(block.epochs), octaves).steps(block, per_epoch)

    def here(step: int) -> Trained:
        metrics = Metrics(
            *(each for part in (training, validation) for each in evaluate(model, *part, loss, precision))
        )
        if not all(map(math.isfinite, astuple(metrics))):
            raise DivergedError(
                f"{name}: the loss is not finite after step {step} (epoch {step / per_epoch:.4g}) at learning rate "
                f"{learning_rate}; a smaller rate is needed (architectures.MODEL.learning_rate)"
            )
        return Trained(step, metrics, {key: t.detach().cpu().clone() for key, t in model.state_dict().items()})

    given, end = model, None
    for epoch in tqdm(block.epochs, desc=name, unit="epoch"):
        if made_again is not None and end is not None:
            model = made_again(end.weights)
            _place(model, device)
        start = (epoch - 1) * per_epoch
        found: list[Trained] = []
        if epoch > 0:
            inside = [step - start for step in steps if start < step < start + per_epoch]

            def look(step: int, start: int = start, found: list[Trained] = found) -> None:
                found.append(here(start + step))

            train_epoch(
                model,
                *training,
                batch_size=batch_size,
                learning_rate=learning_rate,
                seed=seed,
                epoch=epoch,
                loss=loss,
                precision=precision,
                look=look,
                at=inside,
            )
        yield from found
        end = here(epoch * per_epoch)
        yield end
    if model is not given and end is not None:
        given.load_state_dict(end.weights)


def _place(model: nn.Module, device: str) -> None:
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _channels_last(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in the memory format in which convolutions are fastest on CPUs and on GPUs with tensor cores."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images, labels


def train_run(
    model: nn.Module,
    dataset: "Dataset",
    epochs: Sequence[int],
    run: Mapping[str, Any],
    *,
    octaves: bool = False,
    device: str = "cpu",
) -> Iterator[Trained]:
    """`train_block` with the batch size, seed, learning rate, loss and precision of a run of the grid.

    A network that a factory makes is made again for each epoch, so that its weights are the whole state, too.
    """

    def made_again(weights: Weights) -> nn.Module:
        found = of_run(run, dataset.shape, dataset.classes)
        found.load_state_dict(weights)
        return found

    return train_block(
        model,
        dataset,
        Block.of(epochs),
        batch_size=run["batch_size"],
        learning_rate=run["architecture"]["learning_rate"],
        seed=run["seed"],
        loss=loss_of_run(run),
        precision=precision_of_run(run),
        octaves=octaves,
        device=device,
        name=f"{run['dataset']}-{run['model']}, batch size {run['batch_size']}, seed {run['seed']}",
        made_again=made_again if run["architecture"].get("factory") else None,
    )
