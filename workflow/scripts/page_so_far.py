"""The page of what is there so far, and what is still to come."""

from fishertail.execution import so_far
from fishertail.execution.job import job

with job(snakemake) as this:
    given = this.parameters
    runs = [so_far.RunSoFar(**run) for run in given["runs"]]
    so_far.make_page(
        runs, given["files"], snakemake.output[0], settings=given["settings"], configuration=given["configuration"]
    )
