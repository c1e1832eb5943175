"""A measurement from other measurements' tables of a whole run."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake) as this:
    steps.measure_run(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
