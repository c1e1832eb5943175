r"""Mean, second moment and largest of the Fisher matrix's eigenvalues, and the learning rate that they allow.

Most eigenvalues are close to 0 and the largest is huge, from initialisation on (Karakida, Akaho and Amari 2019, arXiv
1806.01316). Of the P eigenvalues of F_true (see true_fisher) these are the mean m = trace / P, the second moment
s = \|F\|_F^2 / P, the largest, and 2 / lambda_max, below which a learning rate lets gradient descent converge. With
random weights and width M, theory has m ~ 1/M, s ~ 1 and lambda_max ~ M; examples/karakida.py measures the slopes. All
come exactly from one Gram matrix of the rows of `samples` samples, drawn from a fixed seed: G G^T has the eigenvalues
of G^T G. They are those of F_true over these samples. The mean estimates that over all samples without bias; the other
two depend on their number, as the theory's do, and true_fisher has the largest over all of them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.exhibits import Drawing, Figure, Panel, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import PositiveInt
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fishertail.gradients.matrix import GradientMatrix
    from fishertail.measurements.measurement import LossFunction, OpenCheckpoint


_AT_INITIALISATION: list[int | str] = [0]
_RTOL = 1e-6  # of the largest eigenvalue


class EigenvalueStatisticsOptions(GradientOptions):
    """Only at initialisation by default, of which the theory speaks."""

    enabled: bool = Field(False, description="whether it is computed at all")
    checkpoints: Schedule = Field(_AT_INITIALISATION, description="at which checkpoints; see norms")
    layers: Literal["all"] | list[str] = Field(
        "all", description="layers that are analysed; 'network' stands for all together; as for spectrum"
    )
    samples: PositiveInt = Field(
        200, description="how many samples; a Gram matrix has (samples x classes)^2 numbers, 32 MB for 10 classes"
    )


def check(model: "nn.Module", loss: "Callable[..., torch.Tensor] | None") -> None:
    """Refuse a loss whose predictive distribution is not known."""
    from fishertail.fisher.true_fisher import predictive_of

    predictive_of(loss)


def check_samples(matrix: "GradientMatrix", loss: "LossFunction | None", options: Mapping[str, Any]) -> None:
    """Refuse outputs that are not one vector for each sample."""
    from fishertail.fisher.true_fisher import predictive_of

    predictive_of(loss).rows(matrix.output_shape)


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics in every layer asked for that the model has."""
    import pandas as pd
    import torch

    from fishertail.fisher.eigenpairs import scopes_of
    from fishertail.fisher.leading_pairs import leading_pairs
    from fishertail.fisher.true_fisher import true_grams
    from fishertail.gradients.network import NETWORK

    known = (*at.matrix.layers, NETWORK)
    layers = None if options["layers"] == "all" else [name for name in options["layers"] if name in known]
    scopes = scopes_of(at.matrix, layers)
    drawn = torch.randperm(len(at.matrix), generator=torch.Generator().manual_seed(0))[: options["samples"]]
    rows = []
    for layer, gram in true_grams(at.matrix, at.loss, scopes, drawn.sort().values, at.memory_budget).items():
        parameters = sum(at.matrix.sizes[part] for part in scopes[layer])
        finite = bool(gram.isfinite().all())
        largest = float(leading_pairs(gram, 1, _RTOL)[0][0]) if finite else float("inf")
        rows.append(
            {
                "layer": layer,
                "parameters": parameters,
                "mean": float(gram.trace()) / parameters,
                "second_moment": float(gram.square().sum()) / parameters,
                "largest": largest,
                "rate": 2 / largest if largest > 0 else float("inf"),
                "samples": len(drawn),
            }
        )
    return {"eigenvalue_statistics": pd.DataFrame(rows)}


def draw(results: Results) -> Drawing:
    """The rate over training."""
    from fishertail.results.drawing import over_training

    table = results.of_layer("eigenvalue_statistics", "network")
    return over_training(results, table, "rate", "2 / lambda_max", log=True)


FIGURE = Figure(
    name="rate_of_convergence",
    title="Rate at which training converges",
    caption="2 / lambda_max of the Fisher matrix of the network under its own predictions, on the number of samples in "
    "the table. The mean over the seeds, with a band from the lowest to the highest; dots are checkpoints that some "
    "seeds lack. Time is logarithmic.",
    needs=("eigenvalue_statistics",),
    draw=draw,
)

MEASUREMENT = Measurement(
    name="eigenvalue_statistics",
    rule="eigenvalue_statistics",
    question="How are the eigenvalues of the Fisher matrix distributed, and which learning rate do they allow?",
    scope="gradients",
    measure=measure,
    options=EigenvalueStatisticsOptions,
    check=check,
    check_samples=check_samples,
    passes=0.4,
    figures=(FIGURE,),
    panel=Panel("eigenvalue_statistics", "rate", "2 / lambda_max", {}, scale="log", colour="#E69F00"),
    tables=(
        Table(
            name="eigenvalue_statistics",
            suffix="csv",
            meaning="mean, second moment and largest of the eigenvalues of F_true",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("parameters", "P, the number of eigenvalues"),
                Column("mean", "trace / P"),
                Column("second_moment", "\\|F\\|_F^2 / P, the mean of the squared eigenvalues"),
                Column("largest", "lambda_max"),
                Column("rate", "2 / lambda_max, the learning rate below which gradient descent converges"),
                Column("samples", "over which F_true is averaged"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
