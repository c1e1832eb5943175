"""Losses and gradient norms of every training sample, at the epochs of a block."""

from functools import partial

from fishertail import checkpoints, models, storage
from fishertail.data import dataset
from fishertail.gradient_table import gradient_table, merged
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    data = dataset.read(snakemake.input.dataset)
    model = models.of_run(snakemake.params.run, data.shape, data.classes)
    weights = checkpoints.read(snakemake.input.checkpoints, snakemake.params.epochs)
    table = merged(this.spread(partial(gradient_table, model, dataset=data, device=this.device), weights))
    storage.write_table(table, snakemake.output[0], this.provenance([data.content_hash], machine=True))
