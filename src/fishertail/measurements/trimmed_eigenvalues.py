"""What lambda_1 loses without the samples that carry it (Fig. 6).

How much of the largest eigenvalue do a few samples carry? A is lambda_1 over all samples; B leaves out the tenth
with the largest abs(a_x). With V_1 kept, B is the mean of a_x^2 over the samples that stay; re-solved, it is the
largest eigenvalue of their own Fisher matrix. The decrease is 100 (1 - B / A), and 0 where A is 0.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import GradientOptions, Measurement
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import Real
from fishertail.training.schedule import Schedule

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import OpenCheckpoint

_BEFORE_TRAINING: list[int | str] = [0]


class TrimmedOptions(GradientOptions):
    """By default at the landmarks, since Fig. 6 shows the lowest validation loss, and before training, for claim 4."""

    checkpoints: Schedule = Field(_BEFORE_TRAINING, description="at which checkpoints; see norms")
    fraction: Real = Field(0.1, gt=0, lt=1, description="share of the samples left out in B of Fig. 6")


def measure(at: "OpenCheckpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """A, B and B re-solved in every layer that has a_x."""
    import numpy as np
    import pandas as pd

    from fishertail.fisher.eigenpairs import scopes_of, solve
    from fishertail.measurements.checkpoint import norms_of
    from fishertail.statistics.trimming import decrease, trimmed, trimmed_eigenvalue

    projections, fraction = at.tables["projections"].sort_values("sample"), options["fraction"]
    layers = at.layers("projections")
    keep = {layer: trimmed(projections[layer].to_numpy(), fraction) for layer in layers}
    resolved = solve(
        at.matrix,
        scopes_of(at.matrix, layers),
        norms_of(at),
        rtol=options["spectrum"]["tolerance"],
        projected=0,
        keep=keep,
        memory_budget=at.memory_budget,
    )
    rows = []
    for layer in layers:
        a_x = projections[layer].to_numpy().astype(np.float64)
        largest, kept = float(np.square(a_x).mean()), trimmed_eigenvalue(a_x, fraction)
        solved = float(resolved[layer].eigenvalues[0])
        rows.append(
            {
                "layer": layer,
                "A": largest,
                "B": kept,
                "decrease_percent": decrease(largest, kept),
                "B_resolved": solved,
                "decrease_resolved_percent": decrease(largest, solved),
                "left_out": int((~keep[layer]).sum()),
            }
        )
    return {"trimmed": pd.DataFrame(rows)}


MEASUREMENT = Measurement(
    name="trimmed_eigenvalues",
    rule="trimmed_eigenvalues",
    question="How much of the largest eigenvalue do a few samples carry?",
    scope="gradients",
    measure=measure,
    options=TrimmedOptions,
    needs=("norms", "spectrum"),
    options_of=("spectrum",),
    passes=2.0,
    tables=(
        Table(
            name="trimmed",
            suffix="csv",
            meaning="A, B and B re-solved (Fig. 6)",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("A", "lambda_1 over all samples"),
                Column("B", "mean a_x^2 over the samples that stay, with V_1 kept"),
                Column("decrease_percent", "100 (1 - B / A)"),
                Column("B_resolved", "lambda_1 of the samples that stay, re-solved"),
                Column("decrease_resolved_percent", "100 (1 - B_resolved / A)"),
                Column("left_out", "samples"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
