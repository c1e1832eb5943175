"""A place for measurements inside someone's training: whatever they do there, training goes on as if without them."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from fishertail import devices


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """A context in full precision, without autocast, which restores random states and numerical settings.

    Random states are those of Python, NumPy and torch, on the CPU and on `device`.
    """
    python, of_numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, of_numpy)
        if device.type == "cpu":
            stack.enter_context(torch.random.fork_rng(devices=[]))
        else:
            stack.enter_context(torch.random.fork_rng(devices=[device], device_type=device.type))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for each in {torch.device("cpu"), device}:
            stack.enter_context(devices.without_autocast(each))
        stack.enter_context(_exact_products())
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """TensorFloat-32 keeps 10 bits, and cuDNN's search for the fastest algorithm would be of other shapes."""
    cudnn: Any = torch.backends.cudnn
    benchmark = cudnn.benchmark
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [place.fp32_precision for place in places]
    try:
        cudnn.benchmark = False
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        cudnn.benchmark = benchmark
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
