"""What the networks of tests are made of: data, and models around a layer."""

import types
from collections.abc import Callable

import torch
from torch import nn

SAMPLES = 11


class Rounded(nn.Module):
    """Rounds, with the derivative of the identity and no derivative of that."""

    def forward(self, inputs):
        return _Round.apply(inputs)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        return inputs.round()

    @staticmethod
    def backward(ctx, derivatives):
        return derivatives


class Lambda(nn.Module):
    """Modules by name, and a function of them and the input."""

    def __init__(self, function: Callable, **parts: nn.Module | nn.Parameter):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SAMPLES, 8, 7, 6), torch.arange(SAMPLES) % 5


def sequences() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SAMPLES, 10, 16), torch.arange(SAMPLES) % 5


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(50, (SAMPLES, 10)), torch.arange(SAMPLES) % 5


def on_pictures(*layers: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def on_sequences(layer: nn.Module, width: int) -> nn.Module:
    return Lambda(lambda m, x: m.head(torch.tanh(m.layer(x)).mean(1)), layer=layer, head=nn.Linear(width, 5))


def of_the_last(layer: nn.Module, width: int) -> nn.Module:
    """The output of a recurrent layer at the last step."""
    return Lambda(lambda m, x: m.head(m.layer(x)[0][:, -1]), layer=layer, head=nn.Linear(width, 5))


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


def twice_under_two_names() -> nn.Module:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    return on_pictures(layer, nn.Tanh(), layer, channels=8)


def language_model(tied: bool, bias: bool) -> nn.Module:
    model = Lambda(
        lambda m, x: m.head(torch.tanh(m.table(x) + m.place(torch.arange(x.shape[1], device=x.device)))).mean(1),
        table=nn.Embedding(50, 12), place=nn.Embedding(10, 12), head=nn.Linear(12, 50, bias=bias),
    )  # fmt: skip
    if tied:
        model.head.weight = model.table.weight
    return model


class WindowedAttention(nn.Module):
    """Windows of 5 tokens folded into the samples, as Swin has them, with a table of position biases."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.bias = nn.Parameter(torch.randn(9))

    def forward(self, x):
        windows = x.reshape(-1, 5, 16)
        q, k, v = self.qkv(windows).chunk(3, dim=-1)
        places = torch.arange(5)
        weights = (q @ k.mT / 4 + self.bias[places[:, None] - places + 4]).softmax(-1)
        return self.out(weights @ v).reshape(x.shape)


class ChannelsLastNorm(nn.LayerNorm):
    """ConvNeXt's LayerNorm2d: a subclass that norms another axis."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Branching(nn.Module):
    """Another path for some samples than for others."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 5), nn.Linear(16, 5)

    def forward(self, x):
        outputs = [(self.a if row.mean() > 0 else self.b)(row[None]) for row in x.mean(1)]
        return torch.cat(outputs)


def listed(model: nn.Module, *names: str) -> nn.Module:
    """The model with some of its parts in a plain list, too."""
    model.list = [getattr(model, name) for name in names]
    return model


def with_a_method(model: nn.Module) -> nn.Module:
    """The model with a method of its own in the place of `forward`, as packages that dispatch models set it."""
    model.forward = types.MethodType(lambda self, x: self[3](self[2](self[1](self[0](x)))), model)
    return model


def with_a_child_that_knows_it() -> nn.Module:
    child = Lambda(lambda m, x: m.o(x.mean(1)) * m.parent[0].scale, o=nn.Linear(12, 5))
    model = Lambda(lambda m, x: m.c(m.a(x).tanh()), scale=nn.Parameter(torch.rand(5)), a=nn.Linear(16, 12), c=child)
    child.parent = [model]
    return model


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in names)
    return model


def initialised(model: nn.Module, data: Callable) -> nn.Module:
    model(data()[0])
    return model
