"""The largest eigenvalues of the Hessian of the mean loss, against 2 / learning rate.

How sharp is the loss, and is V_1 of F its sharpest direction? Gradient descent on a quadratic is unstable where rate x
lambda exceeds 2, and full-batch training hovers about that value, the edge of stability (Cohen et al. 2021, arXiv
2103.00065); SGD steps along the sharpest directions (Jastrzebski et al. 2019, arXiv 1807.05031). The eigenvalues are
the algebraically largest, by curvlinops' products and block Lanczos, of the Hessian of all parameters (`network`), or
of a layer's own block. With `samples`, the Hessian is that of the mean loss of so many samples, drawn once from a fixed
seed; its eigenvalue is that of these samples, not an estimate without bias for all. What it does not say: SGD becomes
unstable earlier than 2 / rate, depending on its batch size. An operation without a second derivative, or with one that
is not symmetric, is refused at the first checkpoint, before anything is computed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.exhibits import Drawing, Figure, Panel, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import PositiveInt, Real
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from fishertail.fisher.hessian import Hessian
    from fishertail.gradients.matrix import GradientMatrix
    from fishertail.measurements.measurement import LossFunction, OpenCheckpoint


class HessianOptions(GradientOptions):
    """Off by default, since Lanczos takes 15 products or more, each of three (conv) to six passes (fc)."""

    enabled: bool = Field(False, description="whether it is computed at all")
    checkpoints: Schedule = Field("2 per octave", description="at which checkpoints; see norms")
    layers: Literal["all"] | list[str] = Field(
        ["network"], description="layers that are analysed; each costs as much as the network"
    )
    eigenpairs: PositiveInt = Field(1, description="how many of the largest eigenpairs")
    both_ends: bool = Field(False, description="whether as many of the smallest, negative ones are computed too")
    samples: Literal["all"] | PositiveInt = Field(
        5000, description="how many samples, or all; Lanczos on all of MNIST costs some 90 passes for fc"
    )
    tolerance: Real = Field(1e-3, gt=0, lt=1, description="relative residual at which Lanczos ends")


def check(model: "nn.Module", loss: "Callable[..., torch.Tensor] | None") -> None:
    """Import curvlinops, which says where it is missing."""
    import fishertail.fisher.hessian  # noqa: F401


def check_samples(matrix: "GradientMatrix", loss: "LossFunction | None", options: Mapping[str, Any]) -> None:
    """Refuse a network whose second derivatives do not exist or are wrong, by two samples."""
    import torch

    _hessian(matrix, loss, torch.arange(min(2, len(matrix))))


def _hessian(matrix: "GradientMatrix", loss: "LossFunction | None", index: "torch.Tensor") -> "Hessian":
    """The Hessian of the mean loss of the samples at `index`."""
    from fishertail.fisher.hessian import Hessian

    return Hessian(matrix.model, *matrix.read(index), loss, matrix.batch_size, matrix.output)


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> dict[str, Any]:
    """Eigenvalues in every layer asked for that the model has."""
    import pandas as pd
    import torch

    from fishertail.fisher.eigenpairs import scopes_of
    from fishertail.gradients.network import NETWORK

    known = (*at.matrix.layers, NETWORK)
    layers = None if options["layers"] == "all" else [name for name in options["layers"] if name in known]
    drawn = torch.randperm(len(at.matrix), generator=torch.Generator().manual_seed(0))
    index = torch.arange(len(at.matrix)) if options["samples"] == "all" else drawn[: options["samples"]].sort().values
    hessian = _hessian(at.matrix, at.loss, index)
    rows = []
    for layer, parts in scopes_of(at.matrix, layers).items():
        names = [name for part in parts for name in at.matrix.parameters[part]]
        found = hessian.eigenpairs(
            names, k=options["eigenpairs"], both_ends=options["both_ends"], rtol=options["tolerance"]
        )
        for rank, value, vector, residual in zip(
            found.ranks, found.eigenvalues, found.eigenvectors, found.residuals, strict=True
        ):
            rows.append(
                {
                    "layer": layer,
                    "rank": rank,
                    "eigenvalue": value,
                    "residual": residual,
                    "converged": bool(residual <= options["tolerance"] * abs(value)),
                    "rate_times_eigenvalue": at.learning_rate * value,
                    "cosine": _cosine(vector, at.tensors["eigenvectors"].get(layer)),
                    "samples": len(index),
                    "products": found.products,
                }
            )
    return {"hessian": pd.DataFrame(rows)}


def _cosine(vector: "NDArray[np.float64]", leading: "torch.Tensor | None") -> float:
    """abs(cos) of the angle to V_1 of F; NaN where that is not at hand, or a vector is 0."""
    import numpy as np

    if leading is None:
        return float("nan")
    first = leading[0].double().numpy()
    norms = np.linalg.norm(vector) * np.linalg.norm(first)
    return float(abs(vector @ first) / norms) if norms > 0 else float("nan")


def draw(results: Results) -> Drawing:
    """Rate x largest eigenvalue of the network over training, with a line at 2."""
    from fishertail.results.drawing import MARK, over_training

    table = results.of_layer("hessian", "network")
    table = table[table["rank"] == 1]
    figure, shown = over_training(results, table, "rate_times_eigenvalue", "rate x largest eigenvalue")
    for axes in figure.axes:
        axes.axhline(2, color=MARK, linestyle=":", linewidth=1)
    return figure, shown


FIGURE = Figure(
    name="edge_of_stability",
    title="Edge of stability",
    caption="Learning rate times the largest eigenvalue of the Hessian of the network, on the number of samples in the "
    "table; above 2, the dotted line, gradient descent on a quadratic is unstable. The mean over the seeds, with a "
    "band from the lowest to the highest; dots are checkpoints that some seeds lack. Time is logarithmic.",
    needs=("hessian",),
    draw=draw,
)

MEASUREMENT = Measurement(
    name="hessian",
    rule="hessian",
    question="How sharp is the loss, and is the leading eigenvector of F its sharpest direction?",
    scope="gradients",
    measure=measure,
    options=HessianOptions,
    needs=("spectrum",),
    tensors=("eigenvectors",),
    check=check,
    check_samples=check_samples,
    passes=8.0,
    figures=(FIGURE,),
    panel=Panel("hessian", "eigenvalue", "sharpness", {"rank": 1}, scale="log", colour="#D55E00"),
    tables=(
        Table(
            name="hessian",
            suffix="csv",
            meaning="the largest eigenvalues of the Hessian of the mean loss",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("rank", "1 is the largest, -1 the smallest"),
                Column("eigenvalue", "of the Hessian; empty where Lanczos gave up"),
                Column("residual", "\\|H v - lambda v\\|: the eigenvalue errs by no more"),
                Column("converged", "the residual is within the tolerance"),
                Column("rate_times_eigenvalue", "learning rate x eigenvalue, to be compared with 2"),
                Column("cosine", "\\|cos\\| of the angle between the eigenvector and V_1 of F"),
                Column("samples", "over which the loss is averaged"),
                Column("products", "number of products of the Hessian with a vector"),
            ),
            keys=("step", "layer", "rank"),
        ),
    ),
)
