"""What lambda_1 loses without a twentieth of the samples at each end of a_x, another reading of Fig. 6.

What is left of lambda_1 without a twentieth of the samples at each signed end? The caption of Fig. 6 leaves out a tenth
of the samples, which can mean those with the largest abs(a_x), as `trimmed_eigenvalues` has it, or a twentieth with the
smallest and a twentieth with the largest a_x. Where a_x is symmetric about 0, both leave out nearly the same samples;
where one sign carries lambda_1, the second leaves more of it. V_1 is kept in both, so that no gradient is computed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import Checkpoint


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """A, and B by both readings, in every layer that has a_x."""
    import numpy as np
    import pandas as pd

    from fishertail.statistics.trimming import decrease, trimmed_at_both_ends, trimmed_eigenvalue

    projections, fraction = at.tables["projections"].sort_values("sample"), options["trimmed_eigenvalues"]["fraction"]
    rows = []
    for layer in at.layers("projections"):
        a_x = projections[layer].to_numpy().astype(np.float64)
        largest, by_size = float(np.square(a_x).mean()), trimmed_eigenvalue(a_x, fraction)
        stay = trimmed_at_both_ends(a_x, fraction)
        both_ends = float(np.square(a_x[stay]).mean())
        rows.append(
            {
                "layer": layer,
                "A": largest,
                "B_both_ends": both_ends,
                "decrease_both_ends_percent": decrease(largest, both_ends),
                "B": by_size,
                "decrease_percent": decrease(largest, by_size),
                "left_out": int((~stay).sum()),
            }
        )
    return {"trimmed_both_ends": pd.DataFrame(rows)}


MEASUREMENT = Measurement(
    name="trimmed_both_ends",
    rule="trimmed_both_ends",
    question="What is left of lambda_1 without a twentieth of the samples at each signed end?",
    scope="tables",
    measure=measure,
    options=Options,
    needs=("spectrum",),
    options_of=("trimmed_eigenvalues",),
    tables=(
        Table(
            name="trimmed_both_ends",
            suffix="csv",
            meaning="A, and B without as many of the smallest and the largest a_x (another reading of Fig. 6)",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("A", "mean a_x^2 over all samples: lambda_1"),
                Column("B_both_ends", "mean a_x^2 without half of `fraction` at each signed end, with V_1 kept"),
                Column("decrease_both_ends_percent", "100 (1 - B_both_ends / A)"),
                Column("B", "mean a_x^2 without `fraction` of largest abs(a_x), as in trimmed.csv"),
                Column("decrease_percent", "100 (1 - B / A)"),
                Column("left_out", "samples without which B_both_ends is taken, half of them at each end"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
