"""The page: everything in one HTML file."""

from fishertail.execution import exhibits
from fishertail.execution.job import job

with job(snakemake) as this:
    exhibits.make_page(this, dict(snakemake.input.items()), snakemake.output[0])
