"""Fig. 6 in full: A, B and B re-solved in every layer of every run."""

from typing import TYPE_CHECKING

from fishertail.measurements.trimmed_eigenvalues import MEASUREMENT as TRIMMED
from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd


def make(results: Results) -> "dict[str, pd.DataFrame]":
    """At each run's epoch of lowest validation loss."""
    from fishertail.results.schema import RUN

    status = {key: found.status for key, found in results.minima().items()}
    shown = results.at_minimum(results["trimmed"])
    keys = shown[RUN].itertuples(index=False, name=None)
    return {"trimmed_eigenvalues": shown.assign(minimum=[status[key] for key in keys])}


TABLE = TableOfRuns(
    name="trimmed_eigenvalue_table",
    title="Fig. 6 in full: every run and layer",
    caption=(
        "A, B and B re-solved in every layer and in the network, for every run, at its epoch of lowest validation "
        'loss. Where the column minimum says "stopped early", the validation loss may fall further. Bears on '
        "claim 4."
    ),
    needs=("trimmed", "metrics"),
    make=make,
    tables=(
        Table(
            name="trimmed_eigenvalues",
            suffix="csv",
            meaning="Fig. 6 in every layer",
            columns=(
                *TRIMMED.tables[0].columns,
                Column("minimum", "as in the table runs"),
            ),
            of_runs=True,
        ),
    ),
)
