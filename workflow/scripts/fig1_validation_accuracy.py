"""Fig. 1: validation accuracy over epochs."""

from fishertail import figures, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    metrics = tables.collect(snakemake.input, snakemake.params.runs)
    record = this.provenance(provenance.data_of(snakemake.input))
    figures.write(figures.validation_accuracy, *snakemake.output, record, metrics)
