"""What each worker of a job on a whole node sees."""

import json
import os

from fishertail.execution.job import job
from fishertail.execution.workers import spread


def seen(share):
    return [list(share), os.environ["CUDA_VISIBLE_DEVICES"]]


with job(snakemake) as this:
    gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    workers = spread(seen, dict.fromkeys(range(6)), workers=len(gpus), gpus=gpus)
    with open(snakemake.output[0], "w") as file:
        json.dump({"gpus": gpus, "workers": workers}, file)
