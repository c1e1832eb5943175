"""What the paper's two networks share: fully connected layers with ReLU, and the initial weights."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

Initialisation = Literal["lecun_normal", "torch"]
Layers = list[tuple[str, nn.Module]]


def fully_connected(inputs: int, widths: Sequence[int], classes: int) -> Layers:
    """Layers fc1, fc2, ... with ReLU between them."""
    layers: Layers = []
    for index, outputs in enumerate([*widths, classes], start=1):
        layers += [(f"fc{index}", nn.Linear(inputs, outputs)), (f"relu_fc{index}", nn.ReLU())]
        inputs = outputs
    return layers[:-1]


def initialised(layers: Layers, initialisation: str) -> nn.Sequential:
    """lecun_normal, Chainer's default: weights normal with variance 1 / fan-in (LeCun et al. 1998), biases zero."""
    model = nn.Sequential(OrderedDict(layers))
    for module in model.modules():
        if initialisation == "lecun_normal" and isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
