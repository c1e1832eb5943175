"""A, B and B solved anew at the epoch of lowest validation loss."""

from fishertail import analysis, checkpoints, models, storage
from fishertail.data import dataset
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    files, options, data = snakemake.input, snakemake.params, dataset.read(snakemake.input.dataset)
    model = models.of_run(options.run, data.shape, data.classes)
    a_x = storage.read_table(files.projections)
    epoch = int(a_x["epoch"].iloc[0])
    path, gradients = (checkpoints.of_epoch(epoch, options.blocks, f) for f in (files.checkpoints, files.gradients))
    weights, norms = checkpoints.read(path, [epoch])[epoch], storage.read_table(gradients)
    solver = {"fraction": options.fraction, "rtol": options.tolerance, "memory_budget": this.memory_budget}
    table = analysis.trimmed_table(model, weights, epoch, data, norms, a_x, **solver, device=this.device)
    storage.write_table(table, snakemake.output[0], this.provenance([data.content_hash], machine=True))
