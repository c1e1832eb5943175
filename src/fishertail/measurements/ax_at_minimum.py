"""a_x of every training sample at the lowest validation loss, kept with the run.

Which a_x do the paper's figures show? Figs. 4 to 6 are of E*, the end of an epoch with the lowest validation loss. The
table `projections` of all checkpoints is too large to be kept with a finished run; this one has its rows at E* as they
are, in float32, so that A and B of Fig. 6, by any reading that keeps V_1, and every figure of a_x can be computed again
from a kept run by anyone: `pandas.read_parquet("ax_at_minimum.parquet")`. It takes 2.3 MB for `fc` on MNIST with all
layers. Where no validation loss at the end of an epoch is known, as in `analyse_run`, it has no rows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.schema import EPOCH, SAMPLE, STEP, Table

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import RunTables


def measure(at: "RunTables", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """The rows of `projections`, in the order of samples."""
    projections = at.tables["projections"]
    return {TABLE.name: projections.sort_values("sample", ignore_index=True) if len(projections) else TABLE.empty()}


TABLE = Table(
    name="ax_at_minimum",
    suffix="parquet",
    meaning="a_x of every training sample at the lowest validation loss",
    columns=(STEP, EPOCH, SAMPLE),
    keys=("step", "sample"),
    of_layers="a_x of rank 1, float32: the projection of the sample's gradient on V_1 of the layer",
)

MEASUREMENT = Measurement(
    name="ax_at_minimum",
    rule="ax_at_minimum",
    question="What is a_x of every training sample at the lowest validation loss?",
    scope="run",
    measure=measure,
    options=Options,
    needs=("spectrum",),
    at_minimum=True,
    tables=(TABLE,),
)
