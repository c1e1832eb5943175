"""A small vision transformer on images of any size."""

from typing import TYPE_CHECKING

from pydantic import Field

from fishertail.settings import PositiveInt, Real
from fishertail.training.networks.network import Architecture, Network, Shape

if TYPE_CHECKING:
    from torch import nn


class VisionTransformer(Architecture):
    """The options of the vision transformer: by default 64 patches and 0.14 million parameters, for a CPU."""

    learning_rate: Real = Field(0.05, gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field("net.heads.head", description="the layer of Fig. 2 to 6: the one that gives classes")
    size: PositiveInt = Field(32, description="side to which images are resized, in pixels")
    patch: PositiveInt = Field(4, description="side of a patch in pixels, a divisor of size")
    depth: PositiveInt = Field(4, description="transformer blocks")
    width: PositiveInt = Field(64, description="length of a token, a multiple of heads")
    heads: PositiveInt = Field(4, description="heads of each block's attention")


def vit(
    shape: Shape, classes: int, size: int = 32, patch: int = 4, depth: int = 4, width: int = 64, heads: int = 4
) -> "nn.Module":
    """Dosovitskiy et al. 2021, as in torchvision: patches, a class token, positions, and transformer blocks.

    Args:
        shape: channels, height and width of an image.
        classes: number of outputs.
        size, patch: sides in pixels, of the resized image and of a patch.
        depth, width, heads: number of blocks, length of a token, and heads of each block's attention.
    """
    from fishertail.training.networks.resized import torchvision_network

    options = {"image_size": size, "patch_size": patch, "num_layers": depth, "num_heads": heads}
    options |= {"hidden_dim": width, "mlp_dim": 2 * width, "num_classes": classes}
    return torchvision_network("vit", shape, size, **options)


NETWORK = Network(
    "vit",
    "a small vision transformer (Dosovitskiy et al. 2021), as in torchvision",
    VisionTransformer,
    vit,
)
