"""Statistics of a_x by epoch and layer, the epoch of lowest validation loss among them."""

import pandas as pd

from fishertail import provenance, storage
from fishertail.ax_statistics import ax_statistics
from fishertail.jobs import job

with job(snakemake) as this:
    parts = [ax_statistics(storage.read_table(path), snakemake.params.near_zero) for path in snakemake.input]
    table = pd.concat(parts, ignore_index=True).drop_duplicates(["epoch", "layer"])
    record = this.provenance(provenance.data_of(snakemake.input))
    storage.write_table(table.sort_values("epoch", kind="stable"), snakemake.output[0], record)
