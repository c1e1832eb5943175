"""A measurement from other measurements' tables."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake) as this:
    steps.measure_tables(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
