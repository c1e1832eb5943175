"""Eigenpairs of the empirical Fisher matrix and a_x, at the wanted epochs of a block."""

from fishertail import analysis, checkpoints, datasets, models, storage
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    data = datasets.read(snakemake.input.dataset)
    model = models.of_run(snakemake.params.run, data.shape, data.classes)
    weights = checkpoints.read(snakemake.input.checkpoints, snakemake.params.epochs)
    gradients = storage.read_table(snakemake.input.gradients)
    found = analysis.spectra(model, weights, data, gradients, **this.solver_options())
    analysis.write(found, snakemake.output, this.provenance([data.content_hash], machine=True))
