"""A row a run: its lowest validation loss, and lambda_1, outliers and convergence there."""

from fishertail import documents, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    files, runs = snakemake.input, snakemake.params.runs
    table = tables.run_summary(
        tables.collect(files.metrics, runs),
        tables.collect(files.spectra, snakemake.params.runs_of_blocks),
        tables.collect(files.at_minimum, runs, layer="figure"),
        tables.collect(files.outliers, runs, layer="network"),
    )
    for path in snakemake.output:
        documents.write_table(table, path, this.provenance(provenance.data_of(files.metrics)))
