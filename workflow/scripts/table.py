"""Tables over all runs."""

from fishertail.execution import exhibits
from fishertail.execution.job import job

with job(snakemake) as this:
    exhibits.tabulate(this, dict(snakemake.input.items()), list(snakemake.output))
