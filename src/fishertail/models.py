"""The paper's two networks, fitted to a data set's shape, and any other network by a factory."""

import importlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from fishertail.errors import UnsupportedModelError


def build(name: str, options: Mapping, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Make a network with its initial weights, which depend on `seed` alone.

    Args:
        name: fc, conv, or any name whose `options` hold a factory.
        options: the entry of `architectures` in config.yaml.
        shape: channels, height and width of an image.
        classes: number of outputs.

    Raises:
        UnsupportedModelError: the images are too small for the pooling layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, 0))
        if options.get("factory"):
            return _factory(options["factory"])(shape=shape, classes=classes, **options.get("arguments", {}))
        given = {key: options[key] for key in ("channels", "hidden_widths", "initialisation") if options.get(key)}
        return {"fc": fc, "conv": conv}[name](shape, classes, **given)


def of_run(run: Mapping, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The initial network of a run: a mapping with model, architecture and seed."""
    return build(run["model"], run["architecture"], shape, classes, run["seed"])


def stream(seed: int, epoch: int) -> int:
    """The seed of the random numbers of one epoch (0 for the initial weights), drawn from (seed, epoch) alone."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def factory_layer_names(factory: str, arguments: Mapping) -> list[str]:
    """The layers of a factory's model, as the analysis names them; an image of 3 x 32 x 32 and 10 classes assumed."""
    with torch.random.fork_rng(devices=[]):
        model = _factory(factory)(shape=(3, 32, 32), classes=10, **arguments)
    return [name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None]


def _factory(path: str):
    module, function = path.split(":")
    return getattr(importlib.import_module(module), function)


def fc(
    shape: tuple[int, int, int], classes: int, hidden_widths: Sequence[int], initialisation: str = "lecun_normal"
) -> nn.Module:
    """Fully connected layers with ReLU; also a factory, for several of them in one grid.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        hidden_widths: of all layers but the last.
        initialisation: lecun_normal or torch.
    """
    layers = [("flatten", nn.Flatten()), *_head(math.prod(shape), hidden_widths, classes)]
    return _initialised(nn.Sequential(OrderedDict(layers)), initialisation)


def conv(
    shape: tuple[int, int, int],
    classes: int,
    channels: Sequence[int],
    hidden_widths: Sequence[int],
    initialisation: str = "lecun_normal",
) -> nn.Module:
    """3 x 3 convolutions, max pooling after all but the first, and fully connected layers; also a factory.

    Args:
        shape, classes, initialisation: as of `fc`.
        channels: outputs of the four convolutions.
        hidden_widths: of all fully connected layers but the last.

    Raises:
        UnsupportedModelError: the images are too small for the pooling layers.
    """
    if min(shape[1:]) < 8:
        raise UnsupportedModelError(f"conv pools three times: images of at least 8 x 8 expected, found {shape[1:]}")
    layers: list[tuple[str, nn.Module]] = []
    inputs = shape[0]
    for index, outputs in enumerate(channels, start=1):
        layers += [(f"conv{index}", nn.Conv2d(inputs, outputs, 3, padding=1)), (f"relu_conv{index}", nn.ReLU())]
        if index > 1:
            layers.append((f"pool{index}", nn.MaxPool2d(2)))
        inputs = outputs
    features = inputs * (shape[1] // 8) * (shape[2] // 8)
    layers.append(("flatten", nn.Flatten()))
    return _initialised(nn.Sequential(OrderedDict(layers + _head(features, hidden_widths, classes))), initialisation)


def _head(inputs: int, widths: Sequence[int], classes: int) -> list[tuple[str, nn.Module]]:
    """Fully connected layers fc1, fc2, ... with ReLU between them."""
    layers: list[tuple[str, nn.Module]] = []
    for index, outputs in enumerate([*widths, classes], start=1):
        layers += [(f"fc{index}", nn.Linear(inputs, outputs)), (f"relu_fc{index}", nn.ReLU())]
        inputs = outputs
    return layers[:-1]


def _initialised(model: nn.Module, initialisation: str) -> nn.Module:
    """lecun_normal, Chainer's default: weights normal with variance 1 / fan-in (LeCun et al. 1998), biases zero."""
    for module in model.modules():
        if initialisation == "lecun_normal" and isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias)
    return model
