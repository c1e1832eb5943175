"""A Lightning training on scikit-learn's digits, measured while it runs.

Run it with `python examples/lightning_digits.py`; it takes about a minute. It needs
`pip install ".[lightning,examples]"`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fishertail.integrations.lightning import FishertailCallback

try:
    import lightning.pytorch as pl
except ImportError:
    import pytorch_lightning as pl


class Digits(pl.LightningModule):  # type: ignore[misc]
    """A small convolutional network, with batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        self.layers = nn.Sequential(*body, nn.Dropout(0.2), nn.Linear(256, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Printer(pl.loggers.logger.DummyLogger):  # type: ignore[misc]
    """A logger that prints; TensorBoardLogger, WandbLogger and the others get the same numbers."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "lambda_1/network" in metrics:
            largest, outliers = metrics["lambda_1/network"], metrics["outliers/network"]
            loss = metrics["train_loss"]
            print(f"{step:6}  {loss:13.3f}  {largest:8.3f}  {outliers:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("lightning-digits"))
    options = parser.parse_args()

    pl.seed_everything(0, verbose=False)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    loader = DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_size=32, shuffle=True)
    quiet: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    callback = FishertailCallback(options.folder, schedule="2 per octave")
    trainer = pl.Trainer(max_epochs=options.epochs, logger=Printer(), callbacks=[callback], **quiet)
    print("  step  training loss  lambda_1  outliers")
    trainer.fit(Digits(), loader)
    print(f"tables of {len(list(options.folder.glob('step*')))} steps in {options.folder}")


if __name__ == "__main__":
    main()
