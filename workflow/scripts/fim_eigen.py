"""Eigenpairs of the empirical Fisher matrix and a_x, at the wanted epochs of a block."""

from functools import partial

from fishertail import analysis, checkpoints, models, storage
from fishertail.data import dataset
from fishertail.jobs import job

with job(snakemake, torch=True) as this:
    data = dataset.read(snakemake.input.dataset)
    model = models.of_run(snakemake.params.run, data.shape, data.classes)
    weights = checkpoints.read(snakemake.input.checkpoints, snakemake.params.epochs)
    gradients = storage.read_table(snakemake.input.gradients)
    spectra = partial(analysis.spectra, model, dataset=data, gradients=gradients, **this.solver_options())
    found = analysis.merged(this.spread(spectra, weights))
    analysis.write(found, snakemake.output, this.provenance([data.content_hash], machine=True))
