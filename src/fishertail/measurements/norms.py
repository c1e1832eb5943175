"""The gradient norm of every training sample, in each layer and the network.

How large is each sample's gradient? The L2 norm of g_x = grad_W f(x; W), where f is the loss (cross entropy), for
every training sample, every layer, and the network as a whole: sqrt of the sum of its layers' squares. Norms are
computed without forming the gradients where these have a factored form (docs/numerics.md), for 0.7 to 1.7 passes with
the paper's networks and 1.4 to 2.1 with today's (docs/benchmarks.md).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.schema import EPOCH, SAMPLE, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.gradients.matrix import Batch
    from fishertail.measurements.measurement import OpenCheckpoint


class NormsOptions(GradientOptions):
    """All checkpoints by default: outliers are counted at each of them, at the cost of one pass."""


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """Loss, correctness and gradient norms of every training sample.

    Losses and norms are kept as float32, whose rounding of 6e-8 is below the error of the norms. Of samples that do not
    have one class each, label and correctness are NaN.
    """
    import numpy as np
    import pandas as pd
    import torch

    from fishertail.gradients.network import NETWORK
    from fishertail.measurements.checkpoint import classes_of

    labels: list[torch.Tensor] = []

    def keep(batch: "Batch") -> None:
        if (classes := classes_of(batch.targets)) is not None:
            labels.append(classes.cpu())

    norms = at.matrix.norms(keep=keep)
    columns: dict[str, Any] = {"sample": np.arange(len(norms.loss), dtype=np.int32)}
    columns["label"] = torch.cat(labels).numpy().astype(np.int32) if labels else np.nan
    correct = np.nan if norms.correct is None else norms.correct
    columns |= {"loss": norms.loss.astype(np.float32), "correct": correct}
    columns |= {layer: norms.per_layer[:, i].astype(np.float32) for i, layer in enumerate(norms.layers)}
    return {"norms": pd.DataFrame({**columns, NETWORK: norms.network.astype(np.float32)})}


LABEL = Column("label", "class of the sample, if it has one")
LOSS = Column("loss", "of the sample: cross entropy, or the loss that was given")
CORRECT = Column("correct", "whether the network's largest output is that of the label, if that is a class")

MEASUREMENT = Measurement(
    name="norms",
    rule="per_sample_gradients",
    question="How large is each training sample's gradient?",
    scope="gradients",
    measure=measure,
    options=NormsOptions,
    passes=1.0,
    memory=6000,
    tables=(
        Table(
            name="norms",
            suffix="parquet",
            meaning="gradient norms of every training sample",
            columns=(STEP, EPOCH, SAMPLE, LABEL, LOSS, CORRECT),
            keys=("step", "sample"),
            of_layers="the L2 norm of the sample's gradient in the layer",
            kept=False,
        ),
    ),
)
