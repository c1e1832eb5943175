"""The hashes of code of all jobs, as rules take them: python -m tests.execution.hashes prints them as JSON."""

import json
from types import SimpleNamespace

from fishertail.execution import plan
from fishertail.grid import config

MODELS = ("fc", "vit", "mine")
STEPS = {"gradients": "measure_block", "tables": "measure_tables", "pair": "measure_pairs", "run": "measure_run"}
OFF_BY_DEFAULT = ("noise_scale", "alignment", "drift_to_diffusion")


def of_jobs() -> dict[str, str]:
    """By the name of the job, with the network where it depends on that."""
    made = plan.Plan(config.complete()(measurements={name: {"enabled": True} for name in OFF_BY_DEFAULT}))
    found = {
        "run_metrics": plan.code_hash("execution.steps:put_metrics_together"),
        "page": made.code_of_page(),
        **{f"dataset {name}": made.code_of_dataset(SimpleNamespace(dataset=name)) for name in ("digits", "mnist")},
    }
    for model in MODELS:
        wildcards = SimpleNamespace(model=model)
        found[f"train {model}"] = made.code_of_training(wildcards)
        for each in made.measurements.values():
            of_network = each.scope in ("gradients", "pair")
            found[f"{each.name} {model}" if of_network else each.name] = made.code_of(each, STEPS[each.scope])(
                wildcards
            )
    found |= {each.rule: plan.code_of_figure(each) for each in made.figures.values()}
    return found | {each.name: plan.code_of_table(each) for each in made.tables.values()}


if __name__ == "__main__":
    print(json.dumps(of_jobs()))
