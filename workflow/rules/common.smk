# The validated configuration, and what rules derive from it: paths, parameters, inputs. No rules.
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fishertail import config as settings
from fishertail import kept_runs, sources
from fishertail.errors import FishertailError
from fishertail.grid import Run
from fishertail.jobs import export
from fishertail.provenance import code_hash, folder_hash
from fishertail.storage import ensure_writable

try:
    CONFIG = settings.load(config, check_sources=workflow.is_main_process)
    if workflow.is_main_process and not workflow.dryrun:
        ensure_writable(CONFIG.pathvars.get("results", "results"))
except FishertailError as error:
    raise WorkflowError(str(error)) from None

if workflow.is_main_process:
    export(Path(workflow.basedir) / "src")

DATASET = "<results>/datasets/{dataset}.safetensors"
DATASETS = list(dict.fromkeys(run.dataset for run in CONFIG.runs))
RUN = "<results>/runs/{dataset}-{model}/bs{batch_size}/seed{seed}"
RUN_NAME = "{dataset}-{model}-bs{batch_size}-seed{seed}"  # of its logs and benchmarks
FORMATS = ["csv", "parquet", "md", "tex"]  # of tables


wildcard_constraints:
    dataset=r"\w+",
    model=r"\w+",
    batch_size=r"\d+",
    seed=r"\d+",
    block=r"epochs\d+-\d+",


def run_of(wildcards):
    return Run(wildcards.dataset, wildcards.model, int(wildcards.batch_size), int(wildcards.seed))


def block_of(wildcards):
    return next(block for block in CONFIG.blocks(run_of(wildcards)) if block.path == wildcards.block)


def run_parameters(wildcards):
    """The run, and its network as far as it shapes the result."""
    return CONFIG.parameters_of(run_of(wildcards))


OTHER_MEMORY = 3000  # MB of a job beyond the memory budget: torch, the data and the model


def minutes(estimate):
    """A resource: the estimate, twice as much at the second attempt. A site may have a limit."""
    return lambda wildcards, attempt: estimate * attempt


def memory(estimate):
    """A resource in MB: the estimate and the memory budget, twice as much at the second attempt."""
    budget = CONFIG.machine.memory_budget
    wanted = estimate if budget == "auto" else max(estimate, int(1024 * budget) + OTHER_MEMORY)
    return lambda wildcards, attempt: wanted * attempt


MACHINE = {  # resources of every job that computes with torch: none of them reruns anything
    "attempt": lambda wildcards, attempt: attempt,
    "device": CONFIG.machine.device,
    "cpu_workers": CONFIG.machine.cpu_workers,
    "memory_budget": CONFIG.machine.memory_budget,
}


def block_epochs(wildcards):
    """The epochs of a block, epoch 0 among them in the first."""
    return list(block_of(wildcards).epochs)


def spectrum_epochs(wildcards):
    """The epochs of a block whose eigenpairs are wanted."""
    return CONFIG.spectrum_epochs_of(block_of(wildcards))


def previous_checkpoints(wildcards):
    """The checkpoints of the block before, whose last weights training goes on from."""
    blocks = CONFIG.blocks(run_of(wildcards))
    position = blocks.index(block_of(wildcards))
    return [f"{RUN}/{blocks[position - 1].path}/checkpoints.safetensors"] if position else []


def of_blocks(name):
    """An input function: the file `name` of every block of a run."""

    def paths(wildcards):
        return [f"{RUN}/{block.path}/{name}" for block in CONFIG.blocks(run_of(wildcards))]

    return paths


KEPT = {run: place for run in CONFIG.runs if (place := kept_runs.find(CONFIG.kept, run.path))}


def folder_of(run):
    """Where the files of a run are made, or were kept."""
    return KEPT.get(run, f"<results>/runs/{run.path}")


def blocks_of(run):
    """The folders of a run's blocks of epochs."""
    return kept_runs.blocks(KEPT[run]) if run in KEPT else [block.path for block in CONFIG.blocks(run)]


def of_runs(name, dataset=None):
    """The file `name` of every run of the grid, or of those of one data set."""
    return [f"{folder_of(run)}/{name}" for run in CONFIG.runs if dataset in (None, run.dataset)]


def of_all_blocks(name):
    """The file `name` of every block of every run."""
    return [f"{folder_of(run)}/{block}/{name}" for run in CONFIG.runs for block in blocks_of(run)]


def runs_parameters(dataset=None):
    """The runs that `of_runs` names, in its order, with the layer that figures show."""
    return [
        asdict(run) | {"figure_layer": CONFIG.architectures[run.model].figure_layer}
        for run in CONFIG.runs
        if dataset in (None, run.dataset)
    ]


def runs_of_all_blocks():
    """The run of each file that `of_all_blocks` names."""
    return [parameters for run, parameters in zip(CONFIG.runs, runs_parameters()) for _ in blocks_of(run)]


def analysed_layers():
    """The layers of the spectra, None for all."""
    return None if CONFIG.analysis.layers == "all" else CONFIG.analysis.layers


def figure_number(number, dataset):
    """The paper shows CIFAR-10 in Fig. 2 and 4, MNIST in Fig. 3 and 5; other data sets take the place of CIFAR-10."""
    return number + 1 if dataset == "mnist" else number


def figure(stem):
    """The files of a figure: drawn twice, and the table behind it."""
    return [f"<results>/figures/{stem}.{suffix}" for suffix in ("svg", "pdf", "csv")]


FIGURES = (
    figure("fig1_validation_accuracy")
    + [path for dataset in DATASETS for path in figure(f"fig{figure_number(2, dataset)}_ax_over_epochs_{dataset}")]
    + [path for dataset in DATASETS for path in figure(f"fig{figure_number(4, dataset)}_ax_at_minimum_{dataset}")]
    + figure("fig6_trimmed_eigenvalues")
    + figure("fig7_outliers")
    + figure("table1_machine")
)
TABLES = [
    f"<results>/tables/{table}.{suffix}"
    for table in (
        "table1_machine",
        "trimmed_eigenvalues",
        "runs",
        "claims",
        "claim_effects",
        "stopping",
        "stopping_runs",
    )
    for suffix in FORMATS
]
