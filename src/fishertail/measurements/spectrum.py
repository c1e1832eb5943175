"""The largest eigenvalues of the Fisher information matrix, and a_x of every training sample.

What is the largest eigenvalue, and which samples carry it? F = 1/N sum_x g_x g_x^T is averaged over all N
training samples (eq. 4, 5). V_1 is the unit eigenvector of its largest eigenvalue lambda_1, and a_x = V_1^T g_x the
projection of a sample's gradient, so that lambda_1 = mean(a_x^2) (eq. 6). Eigenpairs are computed to a tolerance over
all samples, with residual and certificate (docs/numerics.md), in about 2 to 3 passes, those of the norms included.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.exhibits import Panel
from fishertail.results.schema import EPOCH, LAYER, SAMPLE, STEP, Column, Table
from fishertail.settings import PositiveInt, Real

if TYPE_CHECKING:
    from fishertail.measurements.measurement import OpenCheckpoint


class SpectrumOptions(GradientOptions):
    """Which eigenpairs, and how exactly."""

    layers: Literal["all"] | list[str] = Field(
        "all", description="layers that are analysed; 'network' stands for all together"
    )
    eigenpairs: PositiveInt = Field(1, description="how many of the largest eigenpairs")
    tolerance: Real = Field(1e-4, gt=0, lt=1, description="relative error of an eigenvalue")


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> dict[str, Any]:
    """Eigenvalues, a_x of rank 1 and eigenvectors, in every layer asked for that the model has."""
    import numpy as np
    import pandas as pd
    import torch

    from fishertail.fisher.eigenpairs import scopes_of, solve
    from fishertail.gradients.network import NETWORK
    from fishertail.measurements.checkpoint import norms_of

    known = (*at.matrix.layers, NETWORK)
    layers = None if options["layers"] == "all" else [name for name in options["layers"] if name in known]
    found = solve(
        at.matrix,
        scopes_of(at.matrix, layers),
        norms_of(at),
        k=options["eigenpairs"],
        rtol=options["tolerance"],
        projected=1,
        memory_budget=at.memory_budget,
    )
    rows = [
        {
            "layer": layer,
            "rank": rank + 1,
            "eigenvalue": pairs.eigenvalues[rank],
            "residual": pairs.residuals[rank],
            "converged": pairs.converged[rank],
            "certified": pairs.certified[rank],
            "products": pairs.products,
            "trace": pairs.trace,
        }
        for layer, pairs in found.items()
        for rank in range(len(pairs.eigenvalues))
    ]
    columns = {"sample": np.arange(len(at.matrix), dtype=np.int32)}
    columns |= {layer: pairs.projections[:, 0].astype(np.float32) for layer, pairs in found.items()}
    return {
        "spectrum": pd.DataFrame(rows),
        "projections": pd.DataFrame(columns),
        "eigenvectors": {layer: torch.from_numpy(pairs.eigenvectors) for layer, pairs in found.items()},
    }


MEASUREMENT = Measurement(
    name="spectrum",
    rule="fim_eigen",
    question="What are the largest eigenvalues of the Fisher matrix, and which samples carry them?",
    scope="gradients",
    measure=measure,
    options=SpectrumOptions,
    needs=("norms",),
    passes=2.0,
    panel=Panel("spectrum", "eigenvalue", "lambda_1", {"rank": 1}, scale="log"),
    tables=(
        Table(
            name="spectrum",
            suffix="csv",
            meaning="the largest eigenvalues of F, and how far they can be trusted",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("rank", "1 is the largest"),
                Column("eigenvalue", "lambda of this rank"),
                Column("residual", "\\|F V - lambda V\\|, or an upper bound of it"),
                Column("converged", "the estimated error of the eigenvalue is within the tolerance"),
                Column("certified", "the eigenvalue is proved to have this rank (docs/numerics.md)"),
                Column("products", "number of products of F with a vector"),
                Column("trace", "mean \\|g_x\\|^2, the sum of all eigenvalues"),
            ),
            keys=("step", "layer", "rank"),
        ),
        Table(
            name="projections",
            suffix="parquet",
            meaning="a_x of every training sample",
            columns=(STEP, EPOCH, SAMPLE),
            keys=("step", "sample"),
            of_layers="a_x of rank 1: the projection of the sample's gradient on V_1 of the layer",
            kept=False,
        ),
        Table(
            name="eigenvectors",
            suffix="safetensors",
            meaning="tensors `step00000059/fc4`, ...: (eigenpairs, parameters) float32, in the order of `parameters()`",
            columns=(),
            kept=False,
        ),
    ),
)
