"""How many gradient norms are outliers (Fig. 7).

How many samples have a gradient far larger than the others? A sample is an outlier if its gradient norm lies
more than 10 MAD from the median, where MAD = median(abs(x - median(x))) (eq. 8). In the paper's wording the norm itself
exceeds 10 MAD, which holds for a tenth of MNIST before training. Both counts are kept.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.exhibits import Panel
from fishertail.results.schema import EPOCH, LAYER, STEP, Column, Table
from fishertail.settings import Real

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import Checkpoint


class OutlierOptions(Options):
    """What an outlier is."""

    threshold: Real = Field(10, gt=0, description="distance beyond which a norm is an outlier, in units of MAD")
    reading: Literal["distance", "norm"] = Field(
        "distance", description="what exceeds the threshold: the distance from the median, or the norm itself"
    )


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """Median, MAD and outlier counts by both readings, one row for each layer."""
    import pandas as pd

    from fishertail.statistics.outliers import READINGS, outliers

    norms, rows = at.tables["norms"], []
    for layer in at.layers("norms"):
        found = {reading: outliers(norms[layer].to_numpy(), options["threshold"], reading) for reading in READINGS}
        counts = {f"outliers_{reading}": found[reading].count for reading in READINGS}
        of_all = {"median": found["distance"].median, "mad": found["distance"].mad}
        rows.append({"layer": layer, **of_all, **counts, "samples": len(norms)})
    return {"outliers": pd.DataFrame(rows)}


MEASUREMENT = Measurement(
    name="outliers",
    rule="mad_curve",
    question="How many training samples have a gradient far larger than the others?",
    scope="tables",
    measure=measure,
    options=OutlierOptions,
    needs=("norms",),
    shown_by=("reading",),
    panel=Panel("outliers", "outliers_distance", "outliers", {}, colour="#009E73", counts=True),
    tables=(
        Table(
            name="outliers",
            suffix="csv",
            meaning="median, MAD and number of outliers among the gradient norms",
            columns=(
                STEP,
                EPOCH,
                LAYER,
                Column("median", "of the norms"),
                Column("mad", "median distance of the norms from their median"),
                Column("outliers_distance", "norms further than `threshold` MAD from the median"),
                Column("outliers_norm", "norms larger than `threshold` MAD"),
                Column("samples", "N"),
            ),
            keys=("step", "layer"),
        ),
    ),
)
