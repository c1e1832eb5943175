"""The training samples of largest gradient norm.

What do the outliers look like? Listed are those with the largest gradient norm of the network, at most a dozen at each
checkpoint that has a_x, largest first; the page shows their images.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.measurements.norms import CORRECT, LABEL, LOSS
from fishertail.results.schema import EPOCH, SAMPLE, STEP, Column, Table
from fishertail.settings import PositiveInt

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import Checkpoint


class OutlierSamplesOptions(Options):
    """How many samples are listed."""

    count: PositiveInt = Field(12, description="largest number of samples at a checkpoint: as many as a screen shows")


def measure(at: "Checkpoint", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """The outliers of largest norm, with a_x in every layer that has it."""
    from fishertail.statistics.outliers import outliers

    norms, projections = at.tables["norms"], at.tables["projections"]
    layers = at.layers("projections")
    shown = norms[["sample", "label", "loss", "correct"]].assign(gradient_norm=norms["network"])
    shown = shown[outliers(norms["network"].to_numpy(), **options["outliers"]).mask]
    largest = shown.sort_values("gradient_norm", ascending=False, kind="stable").head(options["count"])
    return {"outlier_samples": largest.merge(projections[["sample", *layers]], on="sample")}


MEASUREMENT = Measurement(
    name="outlier_samples",
    rule="outlier_samples",
    question="Which training samples are the outliers?",
    scope="tables",
    measure=measure,
    options=OutlierSamplesOptions,
    needs=("norms", "spectrum"),
    options_of=("outliers",),
    tables=(
        Table(
            name="outlier_samples",
            suffix="csv",
            meaning="the training samples of largest gradient norm",
            columns=(
                STEP,
                EPOCH,
                SAMPLE,
                LABEL,
                LOSS,
                CORRECT,
                Column("gradient_norm", "of its gradient in the whole network"),
            ),
            keys=("step", "sample"),
            of_layers="a_x in the layer",
        ),
    ),
)
