"""Read a data set from its source, check it, and write it as one file."""

from fishertail import datasets
from fishertail.jobs import job

with job(snakemake) as this:
    dataset = datasets.load(snakemake.params.dataset, snakemake.resources.data_dir)
    datasets.write(dataset, snakemake.output[0], this.provenance([dataset.content_hash]))
