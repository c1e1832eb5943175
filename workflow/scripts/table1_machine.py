"""Table 1 as a figure."""

from fishertail import figures, provenance, storage
from fishertail.jobs import job

with job(snakemake) as this:
    table = storage.read_table(snakemake.input[0])
    figures.write(figures.table_figure, *snakemake.output, this.provenance(provenance.data_of(snakemake.input)), table)
