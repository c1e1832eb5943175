"""A measurement of the gradients at the landmarks of a run."""

from fishertail.execution import steps
from fishertail.execution.job import job

with job(snakemake, torch=True) as this:
    steps.measure_landmarks(this, dict(snakemake.input.items()), dict(snakemake.output.items()))
