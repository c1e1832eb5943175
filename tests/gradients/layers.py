"""Networks with every kind of layer, and every use of one, that people have: as small as can be."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.gradients.parts import (
    Branching,
    ChannelsLastNorm,
    Lambda,
    WindowedAttention,
    flat,
    frozen,
    initialised,
    language_model,
    listed,
    of_the_last,
    on_pictures,
    on_sequences,
    pictures,
    sequences,
    tokens,
    twice_under_two_names,
    with_a_child_that_knows_it,
    with_a_method,
)

RULE, EXPANDED, REPLAYED, LOOP = "by a rule", "expanded", "by running the module again", "one sample after the other"


@dataclass(frozen=True)
class Case:
    model: Callable[[], nn.Module]
    data: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    way: str = RULE  # of the layer that takes the most
    plain: Callable[[], nn.Module] | None = None  # the same network, where the model hides it


CASES: dict[str, Case] = {
    "depthwise": Case(lambda: on_pictures(nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(16, 4, 1), channels=4), pictures),
    "grouped, dilated, strided": Case(
        lambda: on_pictures(nn.Conv2d(8, 16, 3, stride=2, padding=2, dilation=2, groups=4), channels=16), pictures
    ),
    "wide convolution at few positions": Case(
        lambda: on_pictures(nn.Conv2d(8, 16, 3, stride=3), nn.Conv2d(16, 32, 2), channels=32), pictures
    ),
    "grouped convolution at few positions": Case(
        lambda: on_pictures(nn.Conv2d(8, 64, 3, stride=3, groups=2), nn.Conv2d(64, 64, 2, groups=2), channels=64),
            pictures
    ),
    "padding same": Case(lambda: on_pictures(nn.Conv2d(8, 9, (3, 4), padding="same"), channels=9), pictures),
    "circular padding": Case(
        lambda: on_pictures(nn.Conv2d(8, 9, 3, padding=1, padding_mode="circular"), channels=9), pictures
    ),
    "transposed convolution": Case(
        lambda: on_pictures(nn.ConvTranspose2d(8, 6, 3, stride=2), channels=6), pictures, REPLAYED
    ),
    "1-d convolution": Case(lambda: on_sequences(nn.Conv1d(10, 12, 3, padding=1, stride=2), 8), sequences),
    "1-d convolution, padding same": Case(lambda: on_sequences(nn.Conv1d(10, 12, 4, padding="same"), 16), sequences),
    "3-d convolution": Case(
        lambda: nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv3d(2, 4, 3), nn.Flatten(), nn.LazyLinear(5)),
        pictures, REPLAYED,
    ),
    "bilinear": Case(
        lambda: Lambda(lambda m, x: m.o(m.b(x[:, 0], x[:, 1])), b=nn.Bilinear(16, 16, 7), o=nn.Linear(7, 5)),
        sequences, REPLAYED,
    ),
    "LSTM": Case(lambda: of_the_last(nn.LSTM(16, 12, batch_first=True), 12), sequences),
    "GRU, 2 layers, both directions": Case(
        lambda: of_the_last(nn.GRU(16, 12, 2, batch_first=True, bidirectional=True), 24), sequences
    ),
    "RNN": Case(lambda: of_the_last(nn.RNN(16, 12, batch_first=True, nonlinearity="relu"), 12), sequences),
    "LSTM, steps first, projected": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.l(x.transpose(0, 1))[0][-1]), l=nn.LSTM(16, 12, proj_size=6), o=nn.Linear(6, 5)
        ),
        sequences,
    ),
    "GRU cell called ten times": Case(
        lambda: Lambda(
            lambda m, x: m.o(__import__("functools").reduce(lambda h, t: m.c(x[:, t], h), range(10), None)),
            c=nn.GRUCell(16, 12), o=nn.Linear(12, 5),
        ),
        sequences,
    ),
    "steps first": Case(
        lambda: Lambda(
            lambda m, x: m.o(torch.tanh(m.n(m.a(x.transpose(0, 1)))).mean(0)),
            a=nn.Linear(16, 12), n=nn.LayerNorm(12), o=nn.Linear(12, 5),
        ),
        sequences,
    ),
    "samples and steps folded": Case(
        lambda: Lambda(
            lambda m, x: m.o(torch.tanh(m.a(x.flatten(0, 1))).view(len(x), 10, -1).mean(1)),
            a=nn.Linear(16, 12), o=nn.Linear(12, 5),
        ),
        sequences,
    ),
    "steps and samples folded": Case(
        lambda: Lambda(
            lambda m, x: m.o(torch.tanh(m.a(x.transpose(0, 1).flatten(0, 1))).view(10, len(x), -1).mean(0)),
            a=nn.Linear(16, 12), o=nn.Linear(12, 5),
        ),
        sequences,
    ),
    "windowed attention": Case(lambda: on_sequences(WindowedAttention(), 16), sequences, REPLAYED),
    "embedding": Case(lambda: on_sequences(nn.Embedding(50, 12, padding_idx=0), 12), tokens),
    "embedding of limited norm": Case(lambda: on_sequences(nn.Embedding(50, 12, max_norm=1.0), 12), tokens),
    "sparse embedding": Case(lambda: on_sequences(nn.Embedding(50, 12, sparse=True), 12), tokens),
    "bag of embeddings": Case(
        lambda: Lambda(lambda m, x: m.o(m.e(x)), e=nn.EmbeddingBag(50, 12), o=nn.Linear(12, 5)), tokens, REPLAYED
    ),
    "bag of embeddings of limited norm": Case(
        lambda: Lambda(lambda m, x: m.o(m.e(x)), e=nn.EmbeddingBag(50, 12, max_norm=1.0), o=nn.Linear(12, 5)),
        tokens, REPLAYED,
    ),
    "bags and embeddings of limited norm": Case(
        lambda: Lambda(
            lambda m, x: m.o((m.e(x) * m.f(x, per_sample_weights=(x / 50).to(m.f.weight))[:, None] * m.g(x)).mean(1)),
            e=nn.Embedding(50, 12, max_norm=1.0), g=nn.Embedding(50, 12, max_norm=0.1, norm_type=1.0, sparse=True),
            f=nn.EmbeddingBag(50, 12, max_norm=1.0, norm_type=3.0, mode="sum", sparse=True), o=nn.Linear(12, 5),
        ),
        tokens, REPLAYED,
    ),
    "language model": Case(lambda: language_model(False, True), tokens),
    "language model, tied": Case(lambda: language_model(True, False), tokens),
    "language model, tied, with a bias": Case(lambda: language_model(True, True), tokens),
    "attention": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.a(x, x, x)[0].mean(1)), a=nn.MultiheadAttention(16, 2, batch_first=True), o=nn.Linear(16,
                5)
        ),
        sequences,
    ),
    "attention without its weights": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.a(x, x, x, need_weights=False)[0].mean(1)),
            a=nn.MultiheadAttention(16, 2, batch_first=True), o=nn.Linear(16, 5),
        ),
        sequences,
    ),
    "attention of a query on other keys": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.a(x[:, :2], x, x)[0].mean(1)),
            a=nn.MultiheadAttention(16, 2, batch_first=True), o=nn.Linear(16, 5),
        ),
        sequences, REPLAYED,
    ),
    "transformer layer": Case(
        lambda: on_sequences(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 16), sequences
    ),
    "transformer layer, steps first": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.a(x.transpose(0, 1)).mean(0)), a=nn.TransformerEncoderLayer(16, 2, 32), o=nn.Linear(16,
                5)
        ),
        sequences,
    ),
    "class token and positions": Case(
        lambda: Lambda(
            lambda m, x: m.o((torch.cat([m.token.expand(len(x), -1, -1), x], 1) + m.place).tanh().mean(1)),
            token=nn.Parameter(torch.randn(1, 1, 16)), place=nn.Parameter(torch.randn(1, 11, 16)), o=nn.Linear(16, 5),
        ),
        sequences, EXPANDED,
    ),
    "scale of a layer": Case(
        lambda: Lambda(lambda m, x: m.o((x * m.g).tanh().mean(1)), g=nn.Parameter(torch.rand(16)), o=nn.Linear(16, 5)),
        sequences, EXPANDED,
    ),
    "weight norm": Case(
        lambda: flat(nn.utils.parametrizations.weight_norm(nn.Linear(160, 12)), nn.Tanh(), nn.Linear(12, 5)),
        sequences, REPLAYED,
    ),
    "weight norm, old": Case(
        lambda: flat(torch.nn.utils.weight_norm(nn.Linear(160, 12)), nn.Tanh(), nn.Linear(12, 5)), sequences, REPLAYED
    ),
    "spectral norm": Case(
        lambda: flat(nn.utils.parametrizations.spectral_norm(nn.Linear(160, 12)), nn.Tanh(), nn.Linear(12, 5)),
        sequences, REPLAYED,
    ),
    "frozen bias": Case(lambda: frozen(flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, 5)), "1.bias"), sequences),
    "frozen weight": Case(lambda: frozen(flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, 5)), "1.weight"), sequences),
    "frozen first layer": Case(
        lambda: frozen(flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, 5)), "1.weight", "1.bias"), sequences
    ),
    "called twice": Case(
        lambda: Lambda(
            lambda m, x: m.o(torch.tanh(m.a(torch.tanh(m.a(x)))).mean(1)), a=nn.Linear(16, 16), o=nn.Linear(16, 5)
        ),
        sequences,
    ),
    "called twice, under two names": Case(twice_under_two_names, pictures),
    "used outside its module": Case(
        lambda: Lambda(lambda m, x: m.o((m.a(x) + x @ m.a.weight).mean(1)), a=nn.Linear(16, 16), o=nn.Linear(16, 5)),
        sequences, REPLAYED,
    ),
    "PReLU and residuals": Case(
        lambda: Lambda(
            lambda m, x: m.o((x + m.p(m.l(m.n(x)))).mean(1)),
            n=nn.LayerNorm(16), l=nn.Linear(16, 16), p=nn.PReLU(), o=nn.Linear(16, 5),
        ),
        sequences,
    ),
    "PReLU by channel": Case(lambda: on_pictures(nn.Conv2d(8, 6, 3), nn.PReLU(6), channels=6), pictures),
    "RMS norm": Case(lambda: on_sequences(nn.RMSNorm(16), 16), sequences),
    "instance norm": Case(
        lambda: on_pictures(nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 6, 3), channels=6), pictures
    ),
    "instance norm that updates its running statistics": Case(
        lambda: Lambda(
            lambda m, x: m.o(F.instance_norm(m.c(x), m.mean, m.var, m.w, use_input_stats=True).tanh().mean((2, 3))),
            c=nn.Conv2d(8, 6, 3), o=nn.Linear(6, 5), w=nn.Parameter(torch.rand(6)),
            mean=nn.Buffer(torch.zeros(6)), var=nn.Buffer(torch.ones(6)),
        ),
        pictures,
    ),
    "counter of the calls": Case(
        lambda: Lambda(
            lambda m, x: m.o(x.mean(1)) + 0 * m.calls.add_(1), o=nn.Linear(16, 5), calls=nn.Buffer(torch.tensor(0))
        ),
        sequences,
    ),
    "batch norm": Case(lambda: on_pictures(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU(True), channels=6), pictures),
    "batch norm of vectors": Case(
        lambda: flat(nn.Linear(160, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 5)), sequences
    ),
    "group norm": Case(lambda: on_pictures(nn.Conv2d(8, 6, 3), nn.GroupNorm(2, 6), channels=6), pictures),
    "norm of a subclass": Case(lambda: on_pictures(nn.Conv2d(8, 6, 3), ChannelsLastNorm(6), channels=6), pictures),
    "local response norm": Case(lambda: on_pictures(nn.Conv2d(8, 6, 3), nn.LocalResponseNorm(3), channels=6), pictures),
    "view of a convolution's output": Case(
        lambda: Lambda(lambda m, x: m.o(m.c(x).tanh().view(-1, 6 * 5 * 4)), c=nn.Conv2d(8, 6, 3), o=nn.Linear(120, 5)),
        pictures,
    ),
    "pictures by their strides": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.c(x).as_strided((len(x), 120), (120, 1)).tanh()), c=nn.Conv2d(8, 6, 3),
            o=nn.Linear(120, 5),
        ),
        pictures,
    ),
    "linear over a grid": Case(
        lambda: Lambda(
            lambda m, x: m.o(torch.tanh(m.a(x.permute(0, 2, 3, 1))).mean((1, 2))), a=nn.Linear(8, 12), o=nn.Linear(12,
                5)
        ),
        pictures,
    ),
    "wide linear over tokens": Case(lambda: on_sequences(nn.Linear(16, 96), 96), sequences),
    "unused layer": Case(lambda: Lambda(lambda m, x: m.o(x.mean(1)), u=nn.Linear(3, 3), o=nn.Linear(16, 5)), sequences),
    "lazy layers": Case(lambda: initialised(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), sequences), sequences),
    "in-place operations on outputs": Case(
        lambda: Lambda(
            lambda m, x: m.o(m.b(m.a(x).relu_()).add_(1).tanh_().mean(1)),
            a=nn.Linear(16, 12), b=nn.Linear(12, 12), o=nn.Linear(12, 5),
        ),
        sequences,
    ),
    "checkpointed": Case(
        lambda: Lambda(
            lambda m, x: m.o(checkpoint(m.a, x, use_reentrant=False).tanh().mean(1)), a=nn.Linear(16, 12),
                o=nn.Linear(12, 5)
        ),
        sequences,
    ),
    "another path for each sample": Case(Branching, sequences, LOOP),
    "compiled": Case(lambda: torch.compile(flat(nn.Linear(160, 5)), backend="eager"), sequences),
    "compiled in part": Case(
        lambda: flat(torch.compile(nn.Sequential(nn.Linear(160, 12), nn.Tanh()), backend="eager"), nn.Linear(12, 5)),
        sequences,
    ),
    "traced by torch.fx": Case(
        lambda: torch.fx.symbolic_trace(flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, 5))), sequences
    ),
    "scripted": Case(
        lambda: torch.jit.script(flat(nn.Linear(160, 5))), sequences, REPLAYED, plain=lambda: flat(nn.Linear(160, 5))
    ),
    "data parallel": Case(lambda: nn.DataParallel(flat(nn.Linear(160, 5))), sequences),
    "modules in a plain list": Case(
        lambda: listed(
            Lambda(
                lambda m, x: m.list[1](m.list[0](x).tanh().mean(1)), a=nn.Linear(16, 12), o=nn.Linear(12, 5),
            ), "a", "o",
        ),
        sequences,
    ),
    "parameters in a plain list": Case(
        lambda: listed(
            Lambda(
                lambda m, x: F.linear(F.linear(x, m.list[0]).tanh().mean(1), m.list[1]),
                w=nn.Parameter(torch.randn(7, 16)), v=nn.Parameter(torch.randn(5, 7)),
            ), "w", "v",
        ),
        sequences,
    ),
    "a method in the place of forward": Case(
        lambda: with_a_method(flat(nn.Linear(160, 12), nn.Tanh(), nn.Linear(12, 5))), sequences
    ),
    "a module that knows its parent": Case(with_a_child_that_knows_it, sequences, EXPANDED),
    "weights in functions, without modules": Case(
        lambda: Lambda(
            lambda m, x: F.linear(F.linear(x, m.w).tanh().mean(1), m.v, m.b),
            w=nn.Parameter(torch.randn(7, 16)), v=nn.Parameter(torch.randn(5, 7)), b=nn.Parameter(torch.randn(5)),
        ),
        sequences,
    ),
}  # fmt: skip
