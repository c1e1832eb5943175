"""Histograms of a_x by epoch and layer."""

import pandas as pd

from fishertail import histograms, provenance, storage
from fishertail.jobs import job

with job(snakemake) as this:
    edges = histograms.bin_edges(**snakemake.params.bins)
    tables = [histograms.histogram_table(storage.read_table(path), edges) for path in snakemake.input]
    table = pd.concat(tables, ignore_index=True)
    storage.write_table(table, snakemake.output[0], this.provenance(provenance.data_of(snakemake.input)))
