"""Fig. 4 and 5: the distribution of a_x at the epoch of lowest validation loss."""

from fishertail import figures, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    shares = tables.collect(snakemake.input, snakemake.params.runs, layer="figure")
    record = this.provenance(provenance.data_of(snakemake.input))
    figures.write(figures.ax_at_minimum, *snakemake.output, record, shares)
