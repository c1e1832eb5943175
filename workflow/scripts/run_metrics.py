"""The metrics of all blocks of a run, as one table."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake) as this:
    steps.put_metrics_together(this, list(snakemake.input), dict(snakemake.output.items()))
