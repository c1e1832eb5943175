"""Fig. 4 and 5: the distribution of a_x at the epoch of lowest validation loss."""

from fishertail import figures, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    files, runs = snakemake.input, snakemake.params.runs
    shares = tables.collect(files.histograms, runs, layer="figure")
    minima = tables.minima(tables.collect(files.metrics, runs))
    record = this.provenance(provenance.data_of(files.histograms))
    figures.write(figures.ax_at_minimum, *snakemake.output, record, shares, minima)
