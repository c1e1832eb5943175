# What a profile for a cluster makes of the rules before: which run on the login node, and Slurm's own resources
import json
import os

from fishertail.clusters import sbatch, slurm
from fishertail.clusters.cost import RESOURCES_VARIABLE


def gpus_of(any_rule):
    """0 for a rule that declares none."""
    asked = any_rule.resources.get("gpus")
    return (asked.value or 0) if asked is not None else 0


def first_runtime(any_rule):
    """Minutes of the first attempt."""
    return any_rule.resources["runtime"].evaluate(None, attempt=1).value


if CONFIG.cluster.scheduler and CONFIG.cluster.cpu_rules == "local":
    workflow.localrules(*(each.name for each in workflow.rules if not gpus_of(each)))

if CONFIG.cluster.scheduler == "slurm":
    for each in workflow.rules:
        each.resources.update(slurm.resources(gpus_of(each), CONFIG.cluster))
    if workflow.is_main_process:
        sbatch.put_first_on_path()


onstart:
    try:
        settings.check_submission(CONFIG)
    except FishertailError as error:
        raise WorkflowError(str(error)) from None


if path := os.environ.get(RESOURCES_VARIABLE):  # for `make cost`
    asked = {
        each.name: {"gpus": gpus_of(each), "runtime": first_runtime(each)} for each in workflow.rules if gpus_of(each)
    }
    Path(path).write_text(
        json.dumps({"rules": asked, "node_gpus": CONFIG.cluster.node_gpus, "whole_nodes": CONFIG.cluster.whole_nodes})
    )
