"""Fig. 6: A, B and the relative decrease in the figure layer, as a table."""

from fishertail import figures, provenance, storage, tables
from fishertail.jobs import job

with job(snakemake) as this:
    table = tables.figure_6(storage.read_table(snakemake.input[0]), snakemake.params.layers)
    record = this.provenance(provenance.data_of(snakemake.input))
    figures.write(figures.table_figure, *snakemake.output, record, table)
