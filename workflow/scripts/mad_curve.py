"""Outliers among the gradient norms by MAD, by epoch and layer."""

import pandas as pd

from fishertail import provenance, storage
from fishertail.jobs import job
from fishertail.mad import outlier_table

with job(snakemake) as this:
    tables = [outlier_table(storage.read_table(path), snakemake.params.threshold) for path in snakemake.input]
    table = pd.concat(tables, ignore_index=True)
    storage.write_table(table, snakemake.output[0], this.provenance(provenance.data_of(snakemake.input)))
