"""Networks trained on real digits for the tests of the numerics."""

from functools import cache
from pathlib import Path

import torch

from fishertail.grid import config
from fishertail.training import sgd
from fishertail.training.networks import build
from tests import once


@cache
def digits_network(name: str, epochs: int):
    """`fc` or `conv` on scikit-learn's digits after some epochs; 25 are enough for 100 % training accuracy."""
    from fishertail.data import loading

    dataset = loading.load("digits")
    folder = once.made(f"digits-{name}-{epochs}", lambda folder: _train(name, epochs, dataset, folder))
    model = torch.load(folder / "model.pt", weights_only=False)  # whole, with the memory format it was trained in
    return model.eval(), *dataset.training_data()


def _train(name: str, epochs: int, dataset, folder: Path) -> None:
    architecture = config.default().architecture(name).model_dump()
    run = {"dataset": "digits", "model": name, "batch_size": 16, "seed": 0}
    run["architecture"] = architecture | {"learning_rate": 0.1, "hidden_widths": [64] * (4 if name == "fc" else 2)}
    model = build.of_run(run, dataset.shape, dataset.classes)
    for _ in sgd.train_run(model, dataset, range(1, epochs + 1), run):
        pass
    torch.save(model, folder / "model.pt")
