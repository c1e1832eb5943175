"""The largest eigenvalues of the Fisher matrix under the model's own predictions, against the empirical one.

How does the empirical Fisher matrix differ from the Fisher matrix? F_true = 1/N sum_x sum_c p_c(x) g_{x,c} g_{x,c}^T,
with g_{x,c} the gradient of the cross entropy for the label c, and p the softmax of the outputs: exactly, over all
classes, by C rows per sample through the solver of F. The rows keep within the memory budget. Those of a sample share a
forward pass and the inputs of the layers, but each has a backward pass of its own, so that more than `most_classes` are
refused. With the squared error p(y | x) is a Gaussian whose variance is
that of the loss's own scale (1/2 for a sum of squares, 1 for half of it, D/2 for the mean of D outputs). In both cases
F_true is the generalised Gauss-Newton matrix of the mean loss; with any other loss p(y | x) is not known, and the
measurement is refused. The empirical F takes the labels of the data instead of p. It is no approximation of F_true in
general: it tends to 0 as the training data are fitted, and carries no second-order information of the loss then
(Kunstner, Balles and Hennig 2019, arXiv 1905.12558). What F_true does not say: which way the loss curves beyond that;
see hessian.
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

    from fishertail.gradients.matrix import GradientMatrix
    from fishertail.measurements.measurement import LossFunction, OpenCheckpoint


class TrueFisherOptions(GradientOptions):
    """Off by default, since a sweep over the rows costs as many backward passes as there are classes."""

    enabled: bool = Field(False, description="whether it is computed at all")
    checkpoints: Schedule = Field("landmarks", description="at which checkpoints; see norms")
    layers: Literal["all"] | list[str] = Field(
        "all", description="layers that are analysed; 'network' stands for all together; as for spectrum"
    )
    eigenpairs: PositiveInt = Field(1, description="how many of the largest eigenpairs")
    tolerance: Real = Field(1e-3, gt=0, lt=1, description="relative error of an eigenvalue; ours, ratios need no more")
    fraction: Real = Field(0.1, gt=0, lt=1, description="share of the samples left out in B, as in Fig. 6")
    most_classes: PositiveInt = Field(100, description="number of classes, or outputs, beyond which it is refused")


def check(model: "nn.Module", loss: "Callable[..., torch.Tensor] | None") -> None:
    """Refuse a loss whose predictive distribution is not known."""
    from fishertail.fisher.true_fisher import predictive_of

    predictive_of(loss)


def check_samples(matrix: "GradientMatrix", loss: "LossFunction | None", options: Mapping[str, Any]) -> None:
    """Refuse outputs that are not one vector for each sample, and more of them than are allowed."""
    from fishertail.errors import UnsupportedModelError
    from fishertail.fisher.true_fisher import predictive_of

    outputs, _ = predictive_of(loss).rows(matrix.output_shape)
    if outputs > options["most_classes"]:
        raise UnsupportedModelError(
            f"true_fisher: {outputs} outputs per sample, so that a sweep costs {outputs} backward passes; "
            f"measurements.true_fisher.most_classes allows {options['most_classes']}"
        )


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> dict[str, Any]:
    """Eigenvalues beside those of the empirical matrix, and what is left of the largest without some samples."""
    import pandas as pd

    from fishertail.fisher.eigenpairs import scopes_of
    from fishertail.fisher.true_fisher import true_eigenpairs
    from fishertail.gradients.network import NETWORK

    check_samples(at.matrix, at.loss, options)
    known = (*at.matrix.layers, NETWORK)
    layers = None if options["layers"] == "all" else [name for name in options["layers"] if name in known]
    found = true_eigenpairs(
        at.matrix,
        at.loss,
        scopes_of(at.matrix, layers),
        k=options["eigenpairs"],
        rtol=options["tolerance"],
        projected=1,
        memory_budget=at.memory_budget,
    )
    empirical = at.tables["spectrum"].set_index(["layer", "rank"])["eigenvalue"]
    rows, trimmed = [], []
    for layer, pairs in found.items():
        for rank, value in enumerate(pairs.eigenvalues, start=1):
            of_data = empirical.get((layer, rank), float("nan"))
            own, other = pairs.eigenvectors[rank - 1], _vector(at, layer, rank)
            rows.append(
                {
                    "layer": layer,
                    "rank": rank,
                    "eigenvalue": value,
                    "residual": pairs.residuals[rank - 1],
                    "converged": pairs.converged[rank - 1],
                    "trace": pairs.trace,
                    "empirical": of_data,
                    "ratio": value / of_data if of_data > 0 else float("nan"),
                    "angle": float("nan") if other is None else _angle(own, other),
                }
            )
        squares = (pairs.projections[:, 0] ** 2).reshape(len(at.matrix), -1).sum(1)
        trimmed.append({"layer": layer} | _trimmed(at, layer, squares, options["fraction"]))
    return {"true_fisher": pd.DataFrame(rows), "true_fisher_trimmed": pd.DataFrame(trimmed)}


def _vector(at: "OpenCheckpoint", layer: str, rank: int) -> "NDArray[np.float32] | None":
    """The empirical eigenvector of a rank, if it is at hand."""
    vectors = at.tensors["eigenvectors"].get(layer)
    return None if vectors is None or len(vectors) < rank else vectors[rank - 1].numpy()


def _angle(a: "NDArray[Any]", b: "NDArray[Any]") -> float:
    """Degrees between two lines; NaN where a vector is 0."""
    import numpy as np

    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(min(abs(a @ b) / norms, 1.0)))) if norms > 0 else float("nan")


def _trimmed(at: "OpenCheckpoint", layer: str, squares: "NDArray[np.float64]", fraction: float) -> dict[str, Any]:
    """A, B and the decrease, with that of the empirical matrix beside it.

    Args:
        squares: (N,) sum_c a_{x,c}^2, which a sample adds to the largest eigenvalue.
    """
    import numpy as np

    from fishertail.statistics.trimming import decrease, trimmed, trimmed_eigenvalue

    sizes, projections = np.sqrt(squares), at.tables["projections"]
    largest, left = float(squares.mean()), trimmed_eigenvalue(sizes, fraction)
    found = {"A": largest, "B": left, "decrease_percent": decrease(largest, left)}
    found["empirical_decrease_percent"] = float("nan")
    if layer in projections:
        a_x = projections[layer].to_numpy().astype(np.float64)
        found["empirical_decrease_percent"] = decrease(float((a_x**2).mean()), trimmed_eigenvalue(a_x, fraction))
    return found | {"left_out": int((~trimmed(sizes, fraction)).sum())}


def draw(results: Results) -> Drawing:
    """The ratio over training."""
    from fishertail.results.drawing import over_training

    table = results.of_layer("true_fisher")
    return over_training(results, table[table["rank"] == 1], "ratio", "true / empirical lambda_1", log=True)


FIGURE = Figure(
    name="true_fisher",
    title="True against empirical Fisher matrix",
    caption="lambda_1 of the Fisher matrix under the model's own predictions, divided by that of the empirical one: "
    "the mean over the seeds, with a band from the lowest to the highest; dots are checkpoints that some seeds lack. "
    "Time is logarithmic.",
    needs=("true_fisher",),
    draw=draw,
    rule="true_fisher_ratio",
)

MEASUREMENT = Measurement(
    name="true_fisher",
    rule="true_fisher",
    question="How does the Fisher matrix under the model's own predictions differ from the empirical one?",
    scope="gradients",
    measure=measure,
    options=TrueFisherOptions,
    needs=("spectrum",),
    tensors=("eigenvectors",),
    check=check,
    check_samples=check_samples,
    passes=25.0,
    figures=(FIGURE,),
    panel=Panel("true_fisher", "eigenvalue", "lambda_1 of F_true", {"rank": 1}, scale="log", colour="#CC79A7"),
    tables=(
        Table(
            name="true_fisher",
            suffix="csv",
            meaning="the largest eigenvalues of F_true, and the empirical ones of the same rank",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("rank", "1 is the largest"),
                Column("eigenvalue", "of F_true"),
                Column("residual", "\\|F_true V - lambda V\\|, or an upper bound of it"),
                Column("converged", "the estimated error of the eigenvalue is within the tolerance"),
                Column("trace", "the sum of all eigenvalues of F_true"),
                Column("empirical", "the eigenvalue of F of this rank"),
                Column("ratio", "eigenvalue / empirical"),
                Column("angle", "degrees between the eigenvectors of this rank, 0 to 90"),
            ),
            keys=("step", "layer", "rank"),
        ),
        Table(
            name="true_fisher_trimmed",
            suffix="csv",
            meaning="what lambda_1 of F_true loses without the samples that carry it",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("A", "mean over the samples of sum_c a_{x,c}^2, which is lambda_1 of F_true"),
                Column("B", "the same over the samples that stay, with V_1 kept"),
                Column("decrease_percent", "100 (1 - B / A)"),
                Column("empirical_decrease_percent", "the same of the empirical F"),
                Column("left_out", "samples, those of largest sum_c a_{x,c}^2"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
