"""Read a data set from its source, check it, and write it as one file."""

from fishertail.data import dataset, loading
from fishertail.execution.job import job

with job(snakemake) as this:
    data = loading.load(snakemake.params.dataset, snakemake.resources.data_dir)
    dataset.write(data, snakemake.output[0], this.provenance([data.content_hash]))
