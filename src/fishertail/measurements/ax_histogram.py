"""How a_x is distributed over all training samples (Figs. 2 to 5).

Are most samples near 0 and a few far out? A histogram of a_x with bins that are the same for all checkpoints
and runs: symmetric about 0, and logarithmic beyond `smallest`. Counts add up to N.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import PositiveInt, Real

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import Checkpoint


class HistogramOptions(Options):
    """Bins of a_x: symmetric about 0, logarithmic beyond `smallest`."""

    smallest: Real = Field(1e-8, gt=0, description="abs(a_x) below it is counted in one bin around 0")
    largest: Real = Field(1e4, gt=0, description="abs(a_x) from here on is counted as overflow")
    bins_per_decade: PositiveInt = Field(4, description="bins per factor of 10, on each side of 0")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest >= self.largest:
            raise ValueError(f"smallest less than largest ({self.largest}) expected, found {self.smallest}")
        return self


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """Counts by layer and bin, the bins that are empty included."""
    import pandas as pd

    from fishertail.statistics.ax import bin_edges, histogram

    projections, edges = at.tables["projections"], bin_edges(**options)
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "bin_left": edges[:-1],
                "bin_right": edges[1:],
                "count": histogram(projections[layer].to_numpy(), edges),
            }
        )
        for layer in at.layers("projections")
    ]
    return {"ax_histogram": pd.concat(parts, ignore_index=True)}


MEASUREMENT = Measurement(
    name="ax_histogram",
    rule="ax_histogram",
    question="How is a_x distributed over all training samples?",
    scope="tables",
    measure=measure,
    options=HistogramOptions,
    needs=("spectrum",),
    tables=(
        Table(
            name="ax_histogram",
            suffix="parquet",
            meaning="histograms of a_x, empty bins included",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("bin_left", "closed end; -inf for the first bin"),
                Column("bin_right", "open end; inf for the last bin"),
                Column("count", "samples"),
            ),
            keys=("step", "layer", "bin_left"),
        ),
    ),
)
