# Where rules run on a cluster, and what `make cost` needs to know of their jobs
import os

from snakemake.resources import Resource

from fishertail.grid.cost import JOBS_VARIABLE, write_jobs

if CONFIG.machine.device == "cpu":  # whatever a profile sets for its GPUs
    for each in workflow.rules:
        if gpus_of(each):
            each.resources["gpus"] = Resource("gpus", 0)

if CONFIG.machine.cpu_rules == "local":  # those that compute with torch are jobs of the cluster, with a GPU or without
    workflow.localrules(*(each.name for each in workflow.rules if each.resources.get("memory_budget") is None))


def asked_for(rule_name, job_wildcards):
    """GPUs, threads and minutes of the first attempt of a job."""
    asked = rule_named(rule_name).resources
    runtime = asked["runtime"]
    if runtime.is_evaluable():
        runtime = runtime.evaluate(job_wildcards, attempt=1)
    return {"gpus": asked["gpus"].value, "threads": asked["_cores"].value, "minutes": runtime.value}


if path := os.environ.get(JOBS_VARIABLE):
    write_jobs(Path(path), ESTIMATOR, asked_for, CONFIG.pathvars.get("results", "results"))
