"""The network of a run, with its initial weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fishertail.training.networks import factory
from fishertail.training.networks.network import Architecture, Shape, networks
from fishertail.training.precision import PRECISION

_SHARED = frozenset(Architecture.model_fields) | {PRECISION}  # of a run's architecture, but not of its network


def build(name: str, options: Mapping[str, Any], shape: Shape, classes: int, seed: int) -> nn.Module:
    """Make a network with its initial weights, which depend on `seed` alone.

    Args:
        name: of a built-in network, or any name whose `options` hold a factory.
        options: the entry of `architectures` in config.yaml.
        shape: channels, height and width of an image.
        classes: number of outputs.

    Raises:
        UnsupportedModelError: the images do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, 0))
        if options.get("factory"):
            return factory.function(options["factory"])(shape=shape, classes=classes, **options.get("arguments", {}))
        own = {key: value for key, value in options.items() if key not in _SHARED}
        return networks()[name].build(shape=shape, classes=classes, **own)


def of_run(run: Mapping[str, Any], shape: Shape, classes: int) -> nn.Module:
    """The initial network of a run: a mapping with model, architecture and seed."""
    return build(run["model"], run["architecture"], shape, classes, run["seed"])


def stream(seed: int, epoch: int) -> int:
    """The seed of the random numbers of one epoch (0 for the initial weights), drawn from (seed, epoch) alone."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
