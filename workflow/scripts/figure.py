"""A figure."""

from fishertail.execution import exhibits
from fishertail.execution.job import job

with job(snakemake) as this:
    exhibits.draw(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
