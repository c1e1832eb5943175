"""Train one block of epochs."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake, torch=True) as this:
    steps.train(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
