"""A, B and their decreases for every run and layer, with whether the minimum of the validation loss was passed."""

from fishertail import documents, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    trimmed = tables.collect(snakemake.input.trimmed, snakemake.params.runs)
    minima = tables.minima(tables.collect(snakemake.input.metrics, snakemake.params.runs))
    table = trimmed.merge(minima[[*tables.RUN, "minimum"]], on=tables.RUN)
    for path in snakemake.output:
        documents.write_table(table, path, this.provenance(provenance.data_of(snakemake.input.trimmed)))
