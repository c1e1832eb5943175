"""Table 1: the machine and the software."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fishertail.results.exhibits import Results, TableOfRuns
from fishertail.results.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd

FACTS = {
    "cpu": "CPU",
    "cores": "cores",
    "memory_gib": "memory (GiB)",
    "gpu": "GPU",
    "cuda": "CUDA",
    "device": "computed on",
    "threads": "threads of a job",
    "os": "operating system",
}


def make(results: Results, records: Sequence[Mapping[str, Any]]) -> "dict[str, pd.DataFrame]":
    """One row for each fact; where machines differ, their values are separated by semicolons.

    Args:
        records: provenance of the files that were computed.
    """
    import pandas as pd

    facts = [(title, [record.get("machine", {}).get(key) for record in records]) for key, title in FACTS.items()]
    packages = dict.fromkeys(name for record in records for name in record["versions"])
    facts += [(name, [record["versions"].get(name) for record in records]) for name in packages]
    rows = [(title, "; ".join(dict.fromkeys(str(v) for v in values if v is not None))) for title, values in facts]
    return {"table1_machine": pd.DataFrame([row for row in rows if row[1]], columns=["item", "value"])}


TABLE = TableOfRuns(
    name="machine_table",
    title="Table 1: machine and software",
    caption="The machine and the software of the jobs that trained the networks and analysed their gradients.",
    needs=(),
    make=make,
    provenance_of=("block_metrics", "spectrum"),
    tables=(
        Table(
            name="table1_machine",
            suffix="csv",
            meaning="the machine and the software",
            columns=(
                Column("item", "of the machine or the software"),
                Column("value", "several are separated by semicolons"),
            ),
        ),
    ),
)
