"""When drift turns into diffusion.

When does the noise of the gradient become larger than its mean? The first step at which the signal-to-noise ratio of
`noise_scale` falls below 1, by layer: before, the gradients of single samples agree on a direction (drift), after it
they scatter around their mean (diffusion; Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, the paper's [8]). With a
`batch_size` the ratio is that of mini-batches, sqrt(batch size) times as large. Between two checkpoints the logarithm
of the ratio is linear in log(1 + step). A layer whose ratio is below 1 from the first checkpoint on, or always above
it, has no crossing. The crossing is no more exact than the checkpoints are close, and a ratio that rises again is not
seen.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fishertail.measurements.measurement import Measurement, Options
from fishertail.results.schema import LAYER, Column, Table
from fishertail.settings import PositiveInt

if TYPE_CHECKING:
    import pandas as pd

    from fishertail.measurements.measurement import RunTables


class DriftOptions(Options):
    """Off by default, as the noise scale is."""

    enabled: bool = Field(False, description="whether it is computed at all")
    batch_size: PositiveInt = Field(1, description="samples whose mean gradient is judged; 1 stands for single samples")


def measure(at: "RunTables", options: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """The crossing in each layer."""
    import numpy as np
    import pandas as pd

    from fishertail.statistics.noise import crossing

    table, rows = at.tables["noise_scale"], []
    per_step = float((table["epoch"] / table["step"].where(table["step"] > 0)).max())
    for layer, part in table.groupby("layer", sort=False):
        ratio = np.sqrt(options["batch_size"]) * part["signal_to_noise"].to_numpy(dtype=float)
        step = crossing(part["step"], ratio)
        sizes = {"largest_ratio": np.fmax.reduce(ratio), "last_ratio": ratio[-1]}  # NaN only where all are
        rows.append({"layer": layer, "crossing_step": step, "crossing_epoch": step * per_step, **sizes})
    return {TABLE.name: pd.DataFrame(rows, columns=TABLE.names)}


TABLE = Table(
    name="drift_to_diffusion",
    suffix="csv",
    meaning="the step at which the signal-to-noise ratio of the gradient falls below 1; empty where it never does",
    columns=(
        LAYER,
        Column("crossing_step", "SGD steps, interpolated between checkpoints"),
        Column("crossing_epoch", "the same in epochs"),
        Column("largest_ratio", "largest signal-to-noise ratio at any checkpoint"),
        Column("last_ratio", "signal-to-noise ratio at the last checkpoint"),
    ),
    keys=("layer",),
)

MEASUREMENT = Measurement(
    name="drift_to_diffusion",
    rule="drift_to_diffusion",
    question="When does the noise of the gradient become larger than its mean?",
    scope="run",
    measure=measure,
    options=DriftOptions,
    needs=("noise_scale",),
    tables=(TABLE,),
)
