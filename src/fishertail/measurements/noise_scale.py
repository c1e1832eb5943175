"""The mean gradient, and the noise of single samples around it.

Does a step follow the mean gradient, or the noise of the samples that it is computed from? The mean gradient is mean g
= G^T 1 / N, and Sigma the covariance of the samples' gradients around it, so that tr(Sigma) = trace F - |mean g|^2 with
trace F = mean |g_x|^2. The simple noise scale tr(Sigma) / |mean g|^2 (McCandlish et al. 2018, arXiv 1812.06162, eq.
2.9) is the batch size, in samples, at which the noise of a mini-batch is as large as the mean gradient. The
signal-to-noise ratio |mean g| / sqrt(tr(Sigma)) is one over the root of it: where it falls below 1, drift turns into
diffusion (Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, the paper's [8]). They take it for the mini-batches of
training, whose ratio is about sqrt(batch size) times that of a single sample, given here. All N training samples are
used, so that Sigma is exactly the covariance of the training set, and not an estimate of the covariance of the
distribution that it was drawn from. That would be N / (N - 1) times as large, and the squared norm of the
distribution's mean gradient smaller by tr(Sigma) / (N - 1) on average. The noise scale is that of plain SGD: it says
nothing of preconditioned steps, for which McCandlish et al. take the Hessian into account.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.exhibits import Drawing, Figure, Panel, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table

if TYPE_CHECKING:
    from fishertail.measurements.measurement import OpenCheckpoint


class NoiseScaleOptions(GradientOptions):
    """Off by default, since it costs a pass at each checkpoint."""

    enabled: bool = Field(False, description="whether it is computed at all")


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> dict[str, Any]:
    """Mean gradient and noise of every layer and of the network."""
    import pandas as pd
    import torch

    from fishertail.fisher.eigenpairs import scopes_of
    from fishertail.fisher.eigenproblem import squares_of
    from fishertail.measurements.checkpoint import norms_of
    from fishertail.statistics.noise import Noise

    norms, means = norms_of(at), at.matrix.mean()
    rows, tensors = [], {}
    for scope, layers in scopes_of(at.matrix).items():
        mean = torch.cat([means[layer] for layer in layers])
        noise = Noise(float(mean.norm()), float(squares_of(norms, layers).mean()))
        rows.append(
            {
                "layer": scope,
                "mean_gradient_norm": noise.mean_norm,
                "trace": noise.trace,
                "covariance_trace": noise.covariance_trace,
                "noise_scale": noise.noise_scale,
                "signal_to_noise": noise.signal_to_noise,
            }
        )
        tensors[scope] = mean.float().cpu()
    return {"noise_scale": pd.DataFrame(rows), "mean_gradients": tensors}


def draw(results: Results) -> Drawing:
    """In the figure layer, with the batch sizes as lines."""
    from matplotlib.axes import Axes

    from fishertail.results import drawing

    figure, table = drawing.over_training(
        results, results.of_layer("noise_scale"), "noise_scale", "noise scale (samples)", log=True
    )
    for axes in filter(Axes.has_data, figure.axes):
        for batch_size in sorted(table["batch_size"].unique()):
            axes.axhline(batch_size, color=drawing.colour_of(int(batch_size))[0], linestyle=":", linewidth=1.1)
    return figure, table


FIGURE = Figure(
    name="noise_scale_over_training",
    title="Noise scale",
    caption=(
        "The simple noise scale tr(Sigma) / |mean g|^2 in the figure layer during training: the mean over the seeds, "
        "with a band from the lowest to the highest; dots are checkpoints that some seeds lack. Dotted lines are the "
        "batch sizes: where a curve is above the line of its colour, the noise of a mini-batch is larger than the mean "
        "gradient, and diffusion replaces drift. Time is logarithmic."
    ),
    needs=("noise_scale",),
    draw=draw,
)

MEASUREMENT = Measurement(
    name="noise_scale",
    rule="gradient_noise",
    question="Does a step follow the mean gradient, or the noise of the samples?",
    scope="gradients",
    measure=measure,
    options=NoiseScaleOptions,
    needs=("norms",),
    passes=1.1,
    figures=(FIGURE,),
    panel=Panel("noise_scale", "noise_scale", "noise scale (samples)", {}, scale="log", colour="#CC79A7"),
    tables=(
        Table(
            name="noise_scale",
            suffix="csv",
            meaning="the mean gradient, and the noise of the samples around it",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("mean_gradient_norm", "\\|mean g\\|"),
                Column("trace", "of F: mean \\|g_x\\|^2"),
                Column("covariance_trace", "tr(Sigma) = trace F - \\|mean g\\|^2"),
                Column("noise_scale", "tr(Sigma) / \\|mean g\\|^2, in samples"),
                Column("signal_to_noise", "\\|mean g\\| / sqrt(tr(Sigma)), of a single sample"),
            ),
            keys=("step", "layer"),
        ),
        Table(
            name="mean_gradients",
            suffix="safetensors",
            meaning="tensors `step00000059/fc4`, ...: (parameters,) float32, in the order of `parameters()`",
            columns=(),
            kept=False,
        ),
    ),
)
