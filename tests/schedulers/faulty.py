"""A job that fails by its own fault, and notes that it was run."""

from fishertail.errors import DatasetError
from fishertail.execution.job import job

with job(snakemake):
    with open("out/faults", "a") as file:
        file.write("run\n")
    raise DatasetError("digits.npz: 10 classes expected, found 9")
