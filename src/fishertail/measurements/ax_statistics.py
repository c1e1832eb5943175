"""The distribution of a_x in a few numbers.

Which share of the samples is near 0, and how large is the largest abs(a_x)? Shares and quantiles of abs(a_x)
over all training samples.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Panel
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import Real

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import Checkpoint


class StatisticsOptions(Options):
    """What counts as near 0."""

    near_zero: Real = Field(0.1, gt=0, description="an abs(a_x) below it counts as near 0")


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """One row for each layer."""
    import pandas as pd

    from fishertail.statistics.ax import sizes

    projections = at.tables["projections"]
    layers = at.layers("projections")
    rows = [{"layer": layer, **sizes(projections[layer].to_numpy(), options["near_zero"])} for layer in layers]
    return {"ax_statistics": pd.DataFrame(rows)}


MEASUREMENT = Measurement(
    name="ax_statistics",
    rule="ax_statistics",
    question="Which share of the samples has an a_x near 0, and how large is the largest?",
    scope="tables",
    measure=measure,
    options=StatisticsOptions,
    needs=("spectrum",),
    panel=Panel("ax_statistics", "near_zero_share", "share of the samples near 0", {}, colour="#CC79A7"),
    tables=(
        Table(
            name="ax_statistics",
            suffix="csv",
            meaning="shares, quantiles and largest of abs(a_x)",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("samples", "N"),
                Column("near_zero_share", "share of the samples with abs(a_x) below near_zero"),
                Column("largest", "largest abs(a_x)"),
                Column("median", "of abs(a_x)"),
                Column("quantile_90", "of abs(a_x)"),
                Column("quantile_99", "of abs(a_x)"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
