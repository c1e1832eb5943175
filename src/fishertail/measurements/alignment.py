"""How training moves along the sharpest directions.

Does training move along the sharpest directions, and do these stay? The sharpest directions are taken to be the leading
eigenvectors V_1, ..., V_k of F. Between neighbouring checkpoints W and W', the displacement of the weights is w = W' -
W. Given are abs(cos) of V_1 with the mean gradient, with V_1 of the checkpoint before, and with w; and the share of
|w|^2 that lies in the k leading directions of the checkpoint before, sum_i (V_i^T w)^2 / |w|^2, where k is the number
of eigenpairs at hand. Beside it stands k / P, the share that a direction drawn at random has on average. Jastrzebski et
al. 2019 (arXiv 1807.05031, the paper's [3]) study the steps of SGD along the sharpest directions of the Hessian; F is
not the Hessian, and the displacement between checkpoints is the sum of many steps, in which oscillations cancel. The
signs of eigenvectors mean nothing, hence abs(cos). Where eigenvalues are close to each other V_1 may turn within their
plane and its cosine with the one before say little. A vector of length 0 has no direction: its cosines are NaN. The
first checkpoint has none before it, and so has the first after kept tables, since eigenvectors are not kept.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Drawing, Figure, Panel, Results
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from fishertail.measurements.measurement import MeasuredCheckpoint, Pair


class AlignmentOptions(Options):
    """Off by default, since it needs the noise scale, which is."""

    enabled: bool = Field(False, description="whether it is computed at all")


def measure(at: "Pair", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """Cosines and shares in every layer that has eigenvectors."""
    import pandas as pd

    rows = [{"layer": layer, **_of_layer(layer, at.now, at.before)} for layer in at.now.tensors["eigenvectors"]]
    return {TABLE.name: pd.DataFrame(rows, columns=TABLE.names[2:])}


def _of_layer(layer: str, now: "MeasuredCheckpoint", before: "MeasuredCheckpoint | None") -> dict[str, float]:
    import math

    leading = now.tensors["eigenvectors"][layer].double()
    count, parameters = leading.shape
    found = {
        "cosine_mean_gradient": _cosine(leading[0], now.tensors["mean_gradients"][layer].double()),
        "cosine_before": math.nan,
        "cosine_displacement": math.nan,
        "displacement": math.nan,
        "leading_share": math.nan,
        "random_share": count / parameters,
        "eigenpairs": count,
    }
    if before is None:
        return found
    directions = before.tensors["eigenvectors"][layer].double()
    displacement = now.parameters[layer].double() - before.parameters[layer].double()
    return found | {
        "cosine_before": _cosine(leading[0], directions[0]),
        "cosine_displacement": _cosine(leading[0], displacement),
        "displacement": float(displacement.norm()),
        "leading_share": _share(displacement, directions),
        "random_share": len(directions) / parameters,
        "eigenpairs": len(directions),
    }


def _cosine(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """abs(cos) of the angle between two vectors; NaN if one is 0."""
    lengths = float(a.norm()) * float(b.norm())
    return abs(float(a @ b)) / lengths if lengths > 0 else float("nan")


def _share(vector: "torch.Tensor", directions: "torch.Tensor") -> float:
    """The share of a vector's squared length in orthonormal directions (k, P); NaN if it or the first of them is 0."""
    square = float(vector.square().sum())
    if not square > 0 or not directions[0].any():
        return float("nan")
    return float((directions @ vector).square().sum()) / square


def draw(results: Results) -> Drawing:
    """Of the whole network: how much of the displacement lies in the leading directions."""
    from fishertail.results import drawing

    table = results.of_layer("alignment", "network").dropna(subset="leading_share")
    return drawing.over_training(
        results, table, "leading_share", "share of the displacement\nin the leading directions", log=True
    )


TABLE = Table(
    name="alignment",
    suffix="csv",
    meaning="the angles of V_1 with the mean gradient, V_1 before and the displacement of the weights",
    columns=(
        STEP,
        EPOCH,
        LAYER,
        Column("cosine_mean_gradient", "abs(cos) of V_1 and the mean gradient"),
        Column("cosine_before", "abs(cos) of V_1 and V_1 of the checkpoint before"),
        Column("cosine_displacement", "abs(cos) of V_1 and the displacement of the weights from the checkpoint before"),
        Column("displacement", "length of the displacement"),
        Column("leading_share", "share of the squared displacement in the leading directions of the checkpoint before"),
        Column("random_share", "the same on average for a random direction: eigenpairs / parameters"),
        Column("eigenpairs", "how many leading directions these are"),
    ),
    keys=("step", "layer"),
)

FIGURE = Figure(
    name="alignment_over_training",
    title="Displacement along the leading directions",
    caption=(
        "How much of the squared displacement of the weights between checkpoints lies in the leading eigenvectors of F "
        "at the checkpoint before, for the whole network: the mean over the seeds, with a band from the lowest to the "
        "highest; dots are checkpoints that some seeds lack. A random direction has the share eigenpairs / parameters, "
        "in alignment.csv. Time is logarithmic."
    ),
    needs=("alignment",),
    draw=draw,
)

MEASUREMENT = Measurement(
    name="alignment",
    rule="alignment",
    question="Does training move along the sharpest directions, and do these stay?",
    scope="pair",
    measure=measure,
    options=AlignmentOptions,
    needs=("spectrum", "noise_scale"),
    figures=(FIGURE,),
    panel=Panel("alignment", "cosine_mean_gradient", "|cos| of V_1 and mean gradient", {}, colour="#56B4E9"),
    tables=(TABLE,),
)
