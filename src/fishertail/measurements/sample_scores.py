"""The error of the network's output for every training sample (EL2N).

How far is each sample's output from its label? EL2N is |p - y|_2, with the softmax p of the outputs and the label y as
a vector of 0 and 1 (Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075); it lies between 0 and sqrt(2). For cross
entropy p - y is the derivative of the loss by the outputs, so EL2N is what the gradient norm would be if the outputs
were the weights. It takes a forward pass and no backward pass, and is computed without the cancellation of p - 1.

A large EL2N does not say why a sample is hard: a wrong label, a rare kind and an early checkpoint look alike.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.schema import EPOCH, SAMPLE, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from fishertail.gradients.matrix import GradientMatrix
    from fishertail.measurements.measurement import LossFunction, OpenCheckpoint


class SampleScoresOptions(GradientOptions):
    """Off by default, since it costs a forward pass at every checkpoint."""

    enabled: bool = Field(False, description="whether it is computed at all")


def check(model: "nn.Module", loss: "LossFunction | None") -> None:
    """Raise `UnsupportedModelError` unless the loss is plain cross entropy."""
    from fishertail.errors import UnsupportedModelError
    from fishertail.gradients.losses import CrossEntropy, loss_of

    if not isinstance(loss_of(loss), CrossEntropy):
        raise UnsupportedModelError(f"sample_scores: plain cross entropy expected, whose p - y is EL2N; found {loss}")


def check_samples(matrix: "GradientMatrix", loss: "LossFunction | None", options: Mapping[str, Any]) -> None:
    """Raise `UnsupportedModelError` unless each sample has one class."""
    import torch

    from fishertail.errors import UnsupportedModelError
    from fishertail.measurements.checkpoint import classes_of

    _, target = matrix.read(torch.tensor([0]))
    if classes_of(target) is None:
        is_tensor = isinstance(target, torch.Tensor)
        found = f"{target.dtype} of shape {tuple(target.shape[1:])}" if is_tensor else type(target).__name__
        raise UnsupportedModelError(f"sample_scores: one class for each sample expected, found {found}")


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """EL2N of every training sample.

    Raises:
        UnsupportedModelError: the samples do not have one label each.
    """
    import numpy as np
    import pandas as pd
    import torch

    from fishertail.gradients.cross_entropy import losses_and_residuals

    check_samples(at.matrix, at.loss, options)
    parts = []
    for index in torch.arange(len(at.matrix)).split(at.matrix.batch_size):
        _, residuals, scale = losses_and_residuals(*at.matrix.outputs(index))
        parts.append(residuals.double().norm(dim=1) * scale)
    scores = torch.cat(parts).cpu().numpy().astype(np.float32)
    return {"sample_scores": pd.DataFrame({"sample": np.arange(len(scores), dtype=np.int32), "el2n": scores})}


MEASUREMENT = Measurement(
    name="sample_scores",
    rule="sample_scores",
    question="How far is the network's output from each training sample's label?",
    scope="gradients",
    measure=measure,
    options=SampleScoresOptions,
    check=check,
    check_samples=check_samples,
    passes=0.4,
    memory=6000,
    tables=(
        Table(
            name="sample_scores",
            suffix="parquet",
            meaning="the error of the output for every training sample",
            columns=(STEP, EPOCH, SAMPLE, Column("el2n", "EL2N: \\|p - y\\| of the sample, between 0 and sqrt(2)")),
            keys=("step", "sample"),
            kept=False,
        ),
    ),
)
