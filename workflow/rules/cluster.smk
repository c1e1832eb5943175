# Where rules run on a cluster, and what they ask for
import json
import os

from fishertail.cost import RESOURCES_VARIABLE


def gpus_of(any_rule):
    """0 for a rule that declares none."""
    asked = any_rule.resources.get("gpus")
    return (asked.value or 0) if asked is not None else 0


def first_runtime(any_rule):
    """Minutes of the first attempt."""
    return any_rule.resources["runtime"].evaluate(None, attempt=1).value


if CONFIG.machine.cpu_rules == "local":
    workflow.localrules(*(each.name for each in workflow.rules if not gpus_of(each)))

if path := os.environ.get(RESOURCES_VARIABLE):  # for `make cost`
    asked = {
        each.name: {"gpus": gpus_of(each), "runtime": first_runtime(each)} for each in workflow.rules if gpus_of(each)
    }
    Path(path).write_text(json.dumps(asked))
