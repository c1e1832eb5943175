"""Your own model and training loop: keep checkpoints, then look at every sample's gradient at each of them.

Run it with `python examples/own_model.py`; it takes seconds. Replace `make_model` and `make_data` by yours.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fishertail

BATCH_SIZE = 32


def make_data() -> tuple[torch.Tensor, torch.Tensor]:
    """1,000 images (N, 1, 8, 8) of a bar, upright or lying, in noise; ten of them with the wrong label (N,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1000) % 2
    images = torch.randn(1000, 1, 8, 8, generator=generator)
    images[labels == 0, :, :, 3:5] += 1
    images[labels == 1, :, 3:5, :] += 1
    labels[:10] = 1 - labels[:10]
    return images, labels


def make_model() -> nn.Module:
    """A small convolutional network."""
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 2))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, folder: Path) -> dict[int, Path]:
    """Plain SGD. Weights are saved after 0, 1, 2, 4, ... steps and after each epoch: files by step."""
    loader = DataLoader(TensorDataset(images, labels), BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    ends = {epoch * len(loader) for epoch in range(1, epochs + 1)}
    wanted = {0, *ends, *(2**power for power in range(len(loader).bit_length()))}
    saved = {}
    step = 0

    def save() -> None:
        if step in wanted:
            saved[step] = folder / f"step{step:06}.pt"
            torch.save(model.state_dict(), saved[step])

    save()
    for _ in range(epochs):
        for batch, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
            step += 1
            save()
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("own-model-checkpoints"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    images, labels = make_data()
    model = make_model()
    checkpoints = train(model, images, labels, options.epochs, options.folder)
    result = fishertail.analyse_run(
        model,
        checkpoints,
        images,
        labels,
        steps_per_epoch=math.ceil(len(labels) / BATCH_SIZE),
        layers=["6", "network"],
    )

    squares = result.projections.pivot(index="step", columns="sample", values="network") ** 2
    shares = squares.loc[:, :9].sum(axis=1) / squares.sum(axis=1)
    print("  step  epoch  lambda_1  share of the ten wrong labels")
    spectrum = result.spectrum.query("layer == 'network'")[["step", "epoch", "eigenvalue"]]
    for step, epoch, eigenvalue in spectrum.itertuples(index=False, name=None):
        print(f"{step:6} {epoch:6.2f}  {eigenvalue:8.3f}  {shares[step]:.0%}")


if __name__ == "__main__":
    main()
