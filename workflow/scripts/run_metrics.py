"""Put the metrics of all blocks of a run together."""

import pandas as pd

from fishertail import provenance, storage
from fishertail.jobs import job

with job(snakemake) as this:
    table = pd.concat([storage.read_table(path) for path in snakemake.input], ignore_index=True)
    storage.write_table(table, snakemake.output[0], this.provenance(provenance.data_of(snakemake.input)))
