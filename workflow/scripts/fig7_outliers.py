"""Fig. 7: the number of outliers over epochs, with the validation loss."""

from fishertail import figures, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    files, runs = snakemake.input, snakemake.params.runs
    counts = tables.collect(files.outliers, runs, layer="network")
    metrics = tables.collect(files.metrics, runs)
    record = this.provenance(provenance.data_of(files.outliers))
    figures.write(figures.outlier_curves, *snakemake.output, record, counts, metrics, snakemake.params.reading)
