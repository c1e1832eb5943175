"""How near the epoch of lowest validation loss comes that told by the outliers, beside other rules."""

from fishertail import documents, provenance, stopping, tables
from fishertail.jobs import job

with job(snakemake) as this:
    runs = snakemake.params.runs
    metrics = tables.collect(snakemake.input.metrics, runs)
    counts = tables.collect(snakemake.input.outliers, runs, layer="network")
    measured = metrics, counts, snakemake.params.reading
    evaluation = stopping.evaluate(*measured)
    summary = stopping.summary(evaluation, stopping.thresholds(*measured))
    written = {"stopping": summary, "stopping_runs": evaluation}
    documents.write_tables(written, snakemake.output, this.provenance(provenance.data_of(snakemake.input.metrics)))
