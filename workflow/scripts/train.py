"""Train a block of epochs from the last weights of the block before it."""

from fishertail import checkpoints, metrics, models, storage, training
from fishertail.data import dataset
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    data, epochs = dataset.read(snakemake.input.dataset), snakemake.params.epochs
    model = models.of_run(snakemake.params.run, data.shape, data.classes)
    for path in snakemake.input.previous:
        model.load_state_dict(checkpoints.read(path, [epochs[0] - 1])[epochs[0] - 1])
    results = list(training.train_run(model, data, epochs, snakemake.params.run, this.device))
    record = this.provenance([data.content_hash], machine=True)
    checkpoints.write({epoch: weights for epoch, _, weights in results}, snakemake.output.checkpoints, record)
    table = metrics.metrics_table({epoch: values for epoch, values, _ in results})
    storage.write_table(table, snakemake.output.metrics, record)
