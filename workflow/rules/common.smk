# The validated configuration, and the plan that rules follow. No rules.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fishertail.errors import FishertailError
from fishertail.execution import plan
from fishertail.execution.job import export
from fishertail.execution.plan import DATASET, FORMATS, RUN, RUN_NAME, Plan
from fishertail.grid import checks, config as settings, times
from fishertail.grid.estimate import SHORTEST, Estimator
from fishertail.results.provenance import folder_hash
from fishertail.results.storage import ensure_writable

try:
    CONFIG = checks.load(config, check_sources=workflow.is_main_process)
    PLAN = Plan(CONFIG)
    if workflow.is_main_process and not workflow.dryrun:
        ensure_writable(CONFIG.pathvars.get("results", "results"))
except FishertailError as error:
    raise WorkflowError(str(error)) from None

CAPTIONS = Path(".snakemake/captions").absolute()  # Snakemake's report takes them from files
if workflow.is_main_process:
    export(Path(workflow.basedir) / "src")
    plan.captions(PLAN.figures, PLAN.tables, CAPTIONS)


wildcard_constraints:
    dataset=r"\w+",
    model=r"\w+",
    batch_size=r"\d+",
    seed=r"\d+",
    number=r"\d+",
    block=r"epochs\d+-\d+",


OTHER_MEMORY = 3000  # MB of a job beyond the memory budget: torch, the data and the model


def gpus_of(any_rule):
    """GPUs of each job, as a profile may have set them; 0 for a rule that declares none."""
    asked = any_rule.resources.get("gpus")
    return (asked.value or 0) if asked is not None else 0


def rule_named(rule_name):
    """The rule of a name, also where this workflow is a module whose rules have a prefix."""
    exact = [each for each in workflow.rules if each.name == rule_name]
    return (exact or [each for each in workflow.rules if each.name.endswith(f"_{rule_name}")])[0]


def workers_of(rule_name):
    """Processes over which a job spreads its checkpoints."""
    return CONFIG.machine.cpu_workers if CONFIG.machine.device == "cpu" else gpus_of(rule_named(rule_name))


SOURCES = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
ESTIMATOR = Estimator(
    PLAN,
    own=times.benchmarks(*(Path(CONFIG.pathvars.get(name, name)) for name in ("benchmarks", "logs"))),
    kept=times.kept(SOURCES / "docs/reproduction/times.csv"),
    workers=workers_of,
)


def minutes(rule_name):
    """The resource runtime: the expected time, times machine.runtime_margin, and as much again at each attempt."""
    if not workflow.is_main_process:  # a running job asks for nothing, so it need not read all benchmarks
        return SHORTEST
    return lambda wildcards, attempt: ESTIMATOR.minutes(rule_name, wildcards, attempt)


def memory(estimate):
    """The resource mem_mb: the estimate, or the memory budget if that needs more; twice that at the second attempt."""
    budget = CONFIG.machine.memory_budget
    wanted = estimate if budget == "auto" else max(estimate, int(1024 * budget) + OTHER_MEMORY)
    return lambda wildcards, attempt: wanted * attempt


BUDGET = CONFIG.machine.memory_budget
MACHINE = {  # resources of every job that computes with torch: none of them reruns anything
    "attempt": lambda wildcards, attempt: attempt,
    "device": CONFIG.machine.device,
    "cpu_workers": CONFIG.machine.cpu_workers,
    "memory_budget": BUDGET if BUDGET == "auto" else round(1024 * BUDGET),  # MiB: Snakemake rounds to whole numbers
}
