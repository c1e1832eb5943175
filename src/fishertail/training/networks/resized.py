"""Today's networks on images of any size, grey or coloured: resized, three channels, normalised."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fishertail.data.operators import declare_torchvision_operators
from fishertail.errors import UnsupportedModelError

MEAN, DEVIATION = 0.45, 0.225  # of ImageNet's pixels, about, as these networks expect them


class Resized(nn.Module):
    """A network that sees every image with size x size pixels and three channels, normalised."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.net, self.size = network, size  # `network` is all layers together, and `model` a column of tables

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, C, H, W), C 1 or 3, in [0, 1]."""
        images = images.expand(-1, 3, -1, -1)  # a grey image three times
        size = (self.size, self.size)
        if images.shape[-2:] != size:
            images = nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        logits: torch.Tensor = self.net((images - MEAN) / DEVIATION)
        return logits


def torchvision_network(name: str, shape: tuple[int, int, int], size: int, **options: Any) -> Resized:
    """A network of torchvision.models by its name.

    Args:
        shape: channels, height and width of an image.
        size: side of the images that it sees, in pixels.
        options: arguments of torchvision's function.

    Raises:
        UnsupportedModelError: images have neither 1 nor 3 channels.
    """
    if shape[0] not in (1, 3):
        raise UnsupportedModelError(f"{name}: images of 1 or 3 channels expected, found {shape[0]}")
    declare_torchvision_operators()
    from torchvision import models

    make: Callable[..., nn.Module] = getattr(models, name, None) or models.VisionTransformer
    return Resized(make(**options), size)
