"""Eigenpairs and a_x at the epoch of lowest validation loss: those of its block, or solved where it has none."""

from fishertail import analysis, checkpoints, metrics, models, storage
from fishertail.data import dataset
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    files, data = snakemake.input, dataset.read(snakemake.input.dataset)
    epoch = metrics.lowest_validation_loss(storage.read_table(files.metrics)).epoch
    block = {name: checkpoints.of_epoch(epoch, snakemake.params.blocks, files[name]) for name in analysis.BLOCK_FILES}
    if (found := analysis.read(block, epoch)) is None:
        model = models.of_run(snakemake.params.run, data.shape, data.classes)
        weights, gradients = checkpoints.read(block["checkpoints"], [epoch]), storage.read_table(block["gradients"])
        found = analysis.spectra(model, weights, data, gradients, **this.solver_options())
    analysis.write(found, snakemake.output, this.provenance([data.content_hash], machine=True))
