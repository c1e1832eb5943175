"""A measurement of the gradients at checkpoints of a block."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake, torch=True) as this:
    steps.measure_block(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
