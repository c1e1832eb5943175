"""What runs in the process that has the simulated accelerator: the same on two devices, for the tests to compare."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import fishertail
from fishertail import devices
from fishertail.data import loading
from fishertail.gradients.matrix import GradientMatrix
from fishertail.gradients.memory_budget import resolved_budget
from fishertail.grid import config
from fishertail.results import provenance
from fishertail.results.run import Block
from fishertail.training import sgd
from fishertail.training.networks import build
from tests.device.simulated import NAME
from tests.gradients.test_networks import made

torch.set_num_threads(1)
PLACES = {  # of model, data, and the argument
    "the argument": ("cpu", "cpu", NAME),
    "the model": (NAME, "cpu", None),
    "the data, brought back": ("cpu", NAME, None),
    "model and data": (NAME, NAME, NAME),
    "auto": ("cpu", "cpu", "auto"),
}


class Tokens(nn.Module):
    """Embedded tokens and a class token of its own through attention."""

    def __init__(self):
        super().__init__()
        self.table, self.place = nn.Embedding(40, 16), nn.Parameter(torch.randn(1, 10, 16))
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens) + self.place
        return self.head(self.attention(x, x, x)[0].mean(1))


def network(name: str, samples: int = 40) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(samples) % 5
    if name == "tokens":
        return Tokens().eval(), torch.randint(40, (samples, 10)), labels
    pictures = torch.rand(samples, 1, 8, 8)
    if name == "replayed":
        layers = [nn.ConvTranspose2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5)]
        model = nn.Sequential(*layers)
        model(pictures)
        return model.eval(), pictures, labels
    return build.build(name, _architecture(name), (1, 8, 8), 5, 0).eval(), pictures, labels


def norms(name: str, place: str) -> tuple[fishertail.GradientNorms, fishertail.GradientNorms]:
    """On the CPU, and on the device."""
    expected = fishertail.gradient_norms(*network(name))
    return expected, _at(place, fishertail.gradient_norms, *network(name))


def norms_of_case(case: str, device: str = NAME) -> tuple[fishertail.GradientNorms, fishertail.GradientNorms]:
    model, images, labels = made(case)
    expected = fishertail.gradient_norms(model, images, labels)
    return expected, fishertail.gradient_norms(model, images, labels, device=device)


def norms_in_and_without_autocast() -> list[fishertail.GradientNorms]:
    """On the CPU; on the device with autocast around the call; and with a plugin for torch that has none."""
    found = [fishertail.gradient_norms(*network("fc"))]
    with torch.autocast(NAME, dtype=torch.bfloat16):
        found.append(fishertail.gradient_norms(*network("fc"), device=NAME))
    kept = torch.simulated.get_amp_supported_dtype
    del torch.simulated.get_amp_supported_dtype
    found.append(fishertail.gradient_norms(*network("fc"), device=NAME))
    torch.simulated.get_amp_supported_dtype = kept
    return found


def eigenpairs(name: str, place: str, **options: Any) -> list[dict[str, np.ndarray]]:
    """On the CPU, and on the device: eigenvalues, and squares of the projections, by layer."""
    found = [fishertail.fisher_eigenpairs(*network(name), k=2, **options)]
    found.append(_at(place, lambda *a, **o: fishertail.fisher_eigenpairs(*a, k=2, **o, **options), *network(name)))
    return [
        {layer: np.vstack([pairs[layer].eigenvalues, np.square(pairs[layer].projections)]) for layer in pairs}
        for pairs in found
    ]


def trained(
    name: str, device: str, dropout: bool = False, octaves: bool = False
) -> tuple[list, dict[str, np.ndarray], bool]:
    """Metrics and last weights after two epochs on digits, and whether the device's random numbers go on as before."""
    data = loading.load("digits")
    model = build.build(name, _architecture(name), data.shape, data.classes, 0)
    if dropout:
        model = nn.Sequential(nn.Dropout(0.2), model)
    before = _random_state(device)
    options = {"batch_size": 64, "learning_rate": 0.1, "seed": 0, "device": device}
    results = list(sgd.train_block(model, data, Block(1, 2), **options, octaves=octaves))
    weights = {name: tensor.numpy() for name, tensor in results[-1].weights.items()}
    return [at.metrics for at in results], weights, torch.equal(before, _random_state(device))


def analysed(device: str, **options: Any) -> dict[str, pd.DataFrame]:
    """The tables of `analyse_run`."""
    model, images, labels = network("fc")
    checkpoints = {e: {n: t * (1 + 0.1 * e) for n, t in model.state_dict().items()} for e in range(3)}
    result = fishertail.analyse_run(model, checkpoints, images, labels, device=device, threads=1, k=2, **options)
    return {name: getattr(result, name) for name in ("norms", "outliers", "spectrum", "projections")}


def facts() -> dict[str, Any]:
    """What is asked of a device besides computing."""
    model, images, labels = network("fc")
    model.to(NAME)
    with GradientMatrix(model, images, labels, device=NAME) as matrix:
        shared = next(matrix._network.model.parameters()).data_ptr() == next(model.parameters()).data_ptr()
    return {
        "auto": devices.automatic(),
        "budget": resolved_budget(None, NAME),
        "machine": provenance.machine(NAME, 1),
        "model is not copied": shared,
        "index": str(matrix.device),
    }


def without_float64() -> tuple[str, str, str]:
    """What `auto` takes where the device has no float64, what it warns of, and the error where the device is named."""
    with _environment(SIMULATED_WITHOUT_FLOAT64="1"):
        import warnings

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            taken = devices.automatic()
        return taken, str(caught[0].message), fault(NAME)


def fault(device: str) -> str:
    """The type of the error that a device leads to, and what it says."""
    try:
        fishertail.gradient_norms(*network("fc"), device=device)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _random_state(device: str) -> torch.Tensor:
    return torch.get_rng_state() if device == "cpu" else torch.get_device_module(device).get_rng_state()


def _at(place: str, function: Callable, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Any:
    of_model, of_data, argument = PLACES[place]
    return function(model.to(of_model), images.to(of_data), labels.to(of_data), device=argument)


def _architecture(name: str) -> dict:
    small = {"hidden_widths": [16] * (4 if name == "fc" else 2)} | ({"channels": [4] * 4} if name == "conv" else {})
    return config.default().architecture(name).model_dump() | small
