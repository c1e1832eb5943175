"""A measurement of the checkpoints of a block, each with the one before it."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake, torch=True) as this:
    steps.measure_pairs(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
