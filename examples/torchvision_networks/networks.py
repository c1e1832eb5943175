"""AlexNet, GoogLeNet and ResNet-18 as torchvision defines them, for images of any size, grey or coloured.

Each function is a factory: the workflow calls it with an image's shape and the number of classes.
"""

from collections.abc import Callable

import torch
from torch import nn

from fishertail.data.torchvision import declare_torchvision_operators

SIZE = 64  # pixels: the least at which AlexNet's and GoogLeNet's poolings leave something, and cheap
MEAN, DEVIATION = 0.45, 0.225  # of ImageNet's pixels, about, as these networks expect them


class Resized(nn.Module):
    """A network that sees every image with SIZE x SIZE pixels and three channels, normalised."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.expand(-1, 3, -1, -1)  # a grey image three times; others have three channels
        images = nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return self.network((images - MEAN) / DEVIATION)


def alexnet(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Krizhevsky et al. 2012, as torchvision has it: 5 convolutions, 3 fully connected layers with dropout."""
    return _resized("alexnet", shape, classes)


def googlenet(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Szegedy et al. 2015, without the auxiliary classifiers: a sample has one loss."""
    return _resized("googlenet", shape, classes, aux_logits=False, init_weights=True)


def resnet18(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """He et al. 2016, with batch normalisation, which is analysed as the function that it is in eval mode."""
    return _resized("resnet18", shape, classes)


def _resized(name: str, shape: tuple[int, int, int], classes: int, **options) -> nn.Module:
    if shape[0] not in (1, 3):
        raise ValueError(f"{name}: images of 1 or 3 channels expected, found {shape[0]}")
    declare_torchvision_operators()
    from torchvision import models

    make: Callable[..., nn.Module] = getattr(models, name)
    return Resized(make(num_classes=classes, **options))
