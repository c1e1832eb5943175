"""How many eigenvalues of the Fisher matrix can exceed a hundredth of the largest one.

Are most eigenvalues near 0, as the paper says (section 1)? There are P of them, all of which are never computed. But
none is negative, their sum is the trace, mean |g_x|^2, and what the k largest leave of it is shared by the others. Each
of these that exceeds lambda_1 / 100 takes more than lambda_1 / 100 of that remainder. So at most (k + (trace - sum of
the k largest) / (lambda_1 / 100)) / P of all eigenvalues exceed it, which judges the first half of claim 6. Computed
eigenvalues err below the true ones (Rayleigh-Ritz), which only raises the bound. Where the k-th is itself below
lambda_1 / 100, the number above is known exactly: all of them are among the k.

The layer `fc4` with k = 10, on 60,000 samples of MNIST, takes 2.2 to 2.6 passes after one or two epochs, 5.7 before
training, where no few samples carry the trace, and 0.4 after 10 epochs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.layer_choice import LAST_HIDDEN, LayerChoice
from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import PositiveInt, Real
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.fisher.result import Eigenpairs
    from fishertail.measurements.measurement import OpenCheckpoint


class EigenvalueCountOptions(GradientOptions):
    """Off by default for its cost. The paper names no numbers; these are what claim 6 is judged by."""

    enabled: bool = Field(False, description="whether it is computed at all")
    checkpoints: Schedule = Field("landmarks", description="at which checkpoints; see norms")
    layers: LayerChoice = Field(
        LAST_HIDDEN,
        description="layers for which it is computed: by default the one before the last, as in the figures",
    )
    eigenpairs: PositiveInt = Field(
        10, description="k, how many of the largest are computed: the more, the tighter the bound"
    )
    ratio: Real = Field(100, gt=1, description="eigenvalues above lambda_1 / ratio are counted")


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """The bound, and the count where it is known, in every layer asked for that the model has."""
    import pandas as pd

    from fishertail.fisher.eigenpairs import scopes_of, solve
    from fishertail.gradients.network import NETWORK
    from fishertail.measurements.checkpoint import norms_of
    from fishertail.measurements.layer_choice import chosen

    layers = chosen(options["layers"], (*at.matrix.layers, NETWORK), at.matrix.layers)
    if not layers:  # a grid may name layers that not every model has
        return {"eigenvalue_count": TABLE.empty().drop(columns=["step", "epoch"])}
    found = solve(
        at.matrix,
        scopes_of(at.matrix, layers),
        norms_of(at),
        k=min(options["eigenpairs"], len(at.matrix)),
        rtol=options["spectrum"]["tolerance"],
        projected=0,
        memory_budget=at.memory_budget,
    )
    rows = [{"layer": layer, **counted(pairs, options["ratio"])} for layer, pairs in found.items()]
    return {"eigenvalue_count": pd.DataFrame(rows)}


def counted(pairs: "Eigenpairs", ratio: float) -> dict[str, float]:
    """A row of the table: how many of the P eigenvalues can exceed lambda_1 / ratio, and how many do.

    Without gradients all eigenvalues are 0, and none exceeds another. Where F is not defined, neither is known.
    """
    import numpy as np

    from fishertail.statistics.eigenvalue_share import share_above

    parameters, values = pairs.eigenvectors.shape[1], pairs.eigenvalues
    largest, total = float(values[0]), float(values.sum())
    count = 0.0 if largest == 0 else float("nan")
    known = len(values) == parameters or values[-1] < largest / ratio  # all that exceed it are among the k
    if np.isfinite(largest) and pairs.converged.all() and known:
        count = float((values > largest / ratio).sum())
    share = share_above(
        ratio,
        eigenpairs=len(values),
        lambda_1=largest,
        of_largest=total,
        trace=pairs.trace,
        parameters=parameters,
    )
    return {
        "eigenpairs": len(values),
        "lambda_1": largest,
        "sum_of_largest": total,
        "trace": pairs.trace,
        "parameters": parameters,
        "above_share": share,
        "above_count": count,
    }


TABLE = Table(
    name="eigenvalue_count",
    suffix="csv",
    meaning="how many eigenvalues of F can exceed a hundredth of lambda_1, if `ratio` is 100",
    columns=(
        STEP,
        EPOCH,
        LAYER,
        Column("eigenpairs", "k, how many of the largest eigenvalues are computed; at most N and P"),
        Column("lambda_1", "the largest eigenvalue"),
        Column("sum_of_largest", "the sum of the k largest"),
        Column("trace", "mean \\|g_x\\|^2, the sum of all eigenvalues"),
        Column("parameters", "P, the number of all eigenvalues"),
        Column("above_share", "upper bound, at most 1, of the share of the P eigenvalues that exceed lambda_1 / ratio"),
        Column("above_count", "how many of the P do exceed it; NaN where the k-th is above it, so that more may"),
    ),
    keys=("step", "layer"),
)

MEASUREMENT = Measurement(
    name="eigenvalue_count",
    rule="eigenvalue_count",
    question="How many eigenvalues can exceed a hundredth of lambda_1?",
    scope="gradients",
    measure=measure,
    options=EigenvalueCountOptions,
    needs=("norms",),
    options_of=("spectrum",),
    passes=2.5,
    tables=(TABLE,),
)
