"""Networks that people train today, on synthetic samples, after a few steps of SGD: residual, attention, tied weights.

torchvision's definitions where it has them. The samples are clusters in noise of uneven strength, and tokens by Zipf's
law: what matters here is the shape of the computation, and gradients that are as uneven as those of real data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from benchmarks.problems import KEPT, Problem, mean_loss
from fishertail.data.operators import declare_torchvision_operators
from fishertail.training import checkpoints

CLASSES, VOCABULARY, POSITIONS = 10, 1000, 64
GRADIENTS_BATCH = 16  # of peers that hold the gradients of a batch: one of AlexNet is 228 MB


def resnet18(norm: Callable[[int], nn.Module]) -> nn.Module:
    """For images of 32 x 32: a stem of 3 x 3 and no pooling after it, as usual for CIFAR-10."""
    from torchvision import models

    model = models.resnet18(num_classes=CLASSES, norm_layer=norm)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def googlenet() -> nn.Module:
    from torchvision import models

    return models.googlenet(num_classes=CLASSES, aux_logits=False, init_weights=False)


def alexnet() -> nn.Module:
    from torchvision import models

    return models.alexnet(num_classes=CLASSES)


class FusedAttention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class PlainAttention(nn.Module):
    """The same by PyTorch's own module."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, attention: nn.Module):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer for 32 x 32 images, whose class token and positions are Parameters of its own."""

    def __init__(self, attention: Callable[[int, int], nn.Module], width=128, depth=4, heads=4, patch=4):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (32 // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, attention(width, heads)) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class GPT(nn.Module):
    """A decoder of tokens, whose head may share its weight with the embedding."""

    def __init__(self, tied: bool, width=128, depth=3, heads=4):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(POSITIONS, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, FusedAttention(width, heads, causal=True)) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedded = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(embedded)))


def clusters(size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 3, size, size) about a mean for each class, some noisier than others, and labels."""
    generator = torch.Generator().manual_seed(0)
    means = 0.3 * torch.randn(CLASSES, 3, size, size, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    strength = 0.3 + torch.rand(count, 1, 1, 1, generator=generator)
    return means[labels] + strength * torch.randn(count, 3, size, size, generator=generator), labels


def texts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (count, T) by Zipf's law, and of each the one that follows."""
    generator = torch.Generator().manual_seed(0)
    weights = 1 / torch.arange(1, VOCABULARY + 1).float()
    drawn = torch.multinomial(weights, count * (POSITIONS + 1), replacement=True, generator=generator)
    drawn = drawn.view(count, POSITIONS + 1)
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()


@dataclass(frozen=True)
class Case:
    """A network, its samples, and how much of them is measured on."""

    title: str
    make: Callable[[], nn.Module]
    data: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    samples: int
    exact: int  # samples whose Gram matrix gives the true lambda_1
    steps: int  # of SGD before


_IMAGES_32, _IMAGES_64 = partial(clusters, 32), partial(clusters, 64)
NETWORKS = {
    "resnet18-bn": Case("ResNet-18, BatchNorm", partial(resnet18, nn.BatchNorm2d), _IMAGES_32, 96, 32, 8),
    "resnet18-gn": Case("ResNet-18, GroupNorm", partial(resnet18, partial(nn.GroupNorm, 8)), _IMAGES_32, 96, 32, 8),
    "googlenet": Case("GoogLeNet", googlenet, _IMAGES_64, 96, 48, 6),
    "alexnet": Case("AlexNet", alexnet, _IMAGES_64, 128, 16, 4),
    "vit-qkv": Case("ViT, fused qkv", partial(ViT, FusedAttention), _IMAGES_32, 200, 48, 8),
    "vit-mha": Case("ViT, MultiheadAttention", partial(ViT, PlainAttention), _IMAGES_32, 200, 48, 8),
    "gpt": Case("GPT", partial(GPT, False), texts, 200, 48, 10),
    "gpt-tied": Case("GPT, tied head", partial(GPT, True), texts, 200, 48, 10),
}


def load(name: str, samples: int | None, device: str) -> Problem:
    """A network after its steps of SGD, in eval mode, and its first samples; all if None."""
    case = NETWORKS[name]
    declare_torchvision_operators()
    torch.manual_seed(0)
    model = case.make()
    images, labels = case.data(case.samples)
    path = KEPT / f"{name}.safetensors"
    if not path.exists():
        _train(model, images, labels, case.steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
        checkpoints.write({0: weights}, str(path), {})
    model.load_state_dict(checkpoints.read(str(path), [0])[0])
    chosen = slice(samples)
    batches = {"batch_size": 48, "gradients_batch_size": GRADIENTS_BATCH}
    return Problem(model.to(device).eval(), images[chosen].to(device), labels[chosen].to(device), **batches)


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (32,), generator=generator)
        optimizer.zero_grad()
        mean_loss(model(images[chosen]), labels[chosen]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
