"""Fig. 2 and 3: the distribution of a_x at each epoch."""

from fishertail import figures, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    files, runs = snakemake.input, snakemake.params.runs
    shares = tables.collect(files.histograms, runs, layer="figure")
    minima = tables.minima(tables.collect(files.metrics, runs))
    record = this.provenance(provenance.data_of(files.histograms))
    figures.write(figures.ax_over_epochs, *snakemake.output, record, shares, minima, snakemake.params.batch_size)
