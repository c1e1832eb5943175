"""A job that computes with torch on the GPU that it asked for."""

from pathlib import Path

from fishertail.execution.job import job

with job(snakemake, torch=True) as this:
    Path(snakemake.output[0]).write_text(this.device)
