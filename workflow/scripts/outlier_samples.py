"""The training samples of largest gradient norm at each analysed epoch, that of lowest validation loss among them."""

from fishertail import outlier_samples, storage
from fishertail.data import dataset
from fishertail.jobs import job

with job(snakemake) as this:
    files, data = snakemake.input, dataset.read(snakemake.input.dataset)
    tables = (map(storage.read_table, paths) for paths in (files.gradients, files.projections))
    at_minimum = storage.read_table(files.at_minimum)
    labels = data.train_labels.numpy()
    table = outlier_samples.of_blocks(zip(*tables, strict=True), at_minimum, labels, **snakemake.params.options)
    storage.write_table(table, snakemake.output[0], this.provenance([data.content_hash]))
