"""What the rules of a run derive from the configuration: paths, inputs, parameters and hashes of code.

Paths are Snakemake's, with wildcards in braces and path variables in angle brackets.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from fishertail.data import source
from fishertail.errors import ConfigError
from fishertail.grid.config import Config
from fishertail.measurements import measurement as measured
from fishertail.measurements.measurement import Measurement, options_given
from fishertail.results import archive
from fishertail.results.provenance import code_hash
from fishertail.results.run import LANDMARKS, Block, Run
from fishertail.results.schema import Table
from fishertail.training.networks import network
from fishertail.training.schedule import in_common

DATASET = "<results>/datasets/{dataset}.safetensors"
RUN = "<results>/runs/{dataset}-{model}/bs{batch_size}/seed{seed}"
RUN_NAME = "{dataset}-{model}-bs{batch_size}-seed{seed}"  # of its logs and benchmarks
CHECKPOINTS, METRICS = "checkpoints.safetensors", "metrics.csv"

Wildcards = Any  # of Snakemake
Inputs = Callable[[Wildcards], Any]


class RunPlan:
    """The runs of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.measurements = config.enabled
        self.datasets = list(dict.fromkeys(run.dataset for run in config.runs))
        places = {run: archive.find(config.kept, run.path) for run in config.runs}
        self.kept = {run: place for run, place in places.items() if place is not None}

    # ---- runs and blocks ------------------------------------------------------------------------------------------

    def run_of(self, wildcards: Wildcards) -> Run:
        """The run of a job."""
        return Run(wildcards.dataset, wildcards.model, int(wildcards.batch_size), int(wildcards.seed))

    def block_of(self, wildcards: Wildcards) -> Block:
        """The block of epochs of a job.

        Raises:
            ConfigError: a file of another block was asked for; names the blocks that there are.
        """
        run = self.run_of(wildcards)
        blocks = {block.path: block for block in self.new_blocks(run)}
        if wildcards.block not in blocks:
            paths = list(blocks)
            there = f"its blocks are {paths[0]} to {paths[-1]}" if paths else "all of its blocks are kept"
            raise ConfigError(
                f"{run.path} has no block {wildcards.block}: {there} (epochs_per_job says how long each is)"
            )
        return blocks[wildcards.block]

    def kept_blocks(self, run: Run) -> list[Block]:
        """Those that were finished before or elsewhere."""
        return archive.blocks(self.kept[run]) if run in self.kept else []

    def new_blocks(self, run: Run) -> list[Block]:
        """Those that this workflow computes."""
        kept = self.kept_blocks(run)
        return self.config.blocks(run, after=kept[-1].last if kept else 0)

    def folder_of(self, run: Run) -> str:
        """Where the files of a run are: below results, or kept, where nothing of it is computed."""
        return f"<results>/runs/{run.path}" if self.new_blocks(run) else self.kept[run]

    def run_parameters(self, wildcards: Wildcards) -> dict[str, Any]:
        """The run, and its network as far as it shapes the result."""
        return self.config.parameters_of(self.run_of(wildcards))

    def runs_parameters(self, dataset: str | None = None) -> list[dict[str, Any]]:
        """All runs, or those of a data set, with the layer that figures show."""
        return [
            asdict(run) | {"figure_layer": self.config.architecture(run.model).figure_layer}
            for run in self.config.runs
            if dataset in (None, run.dataset)
        ]

    # ---- training -------------------------------------------------------------------------------------------------

    def block_epochs(self, wildcards: Wildcards) -> list[int]:
        """The epochs of a block, epoch 0 among them in the first."""
        return list(self.block_of(wildcards).epochs)

    def octaves(self, wildcards: Wildcards) -> bool:
        """Whether a block keeps weights inside epochs."""
        return self.config.octaves_in(self.block_of(wildcards))

    def previous_weights(self, wildcards: Wildcards) -> list[str]:
        """The file of the last weights before a block, from which training goes on."""
        run, block = self.run_of(wildcards), self.block_of(wildcards)
        blocks = self.new_blocks(run)
        position = blocks.index(block)
        if position:
            return [f"{RUN}/{blocks[position - 1].path}/{CHECKPOINTS}"]
        return [f"{self.kept[run]}/{archive.LAST_WEIGHTS}"] if run in self.kept else []

    def metrics_parts(self, wildcards: Wildcards) -> list[str]:
        """The metrics of all blocks of a run, the kept ones first."""
        run = self.run_of(wildcards)
        kept = [f"{self.kept[run]}/{METRICS}"] if run in self.kept else []
        return kept + self._of_new_blocks(run, METRICS)

    def all_blocks(self, wildcards: Wildcards) -> list[list[int]]:
        """The epochs of all blocks of a run."""
        run = self.run_of(wildcards)
        return [list(block.epochs) for block in (*self.kept_blocks(run), *self.new_blocks(run))]

    def new_block_epochs(self, wildcards: Wildcards) -> list[list[int]]:
        """The epochs of the blocks of a run that are computed."""
        return [list(block.epochs) for block in self.new_blocks(self.run_of(wildcards))]

    def code_of_training(self, wildcards: Wildcards) -> str:
        """The hash of what trains a run."""
        return code_hash("execution.steps:train", *self._code_of_network(wildcards.model), "data.dataset")

    # ---- measurements ---------------------------------------------------------------------------------------------

    def files(self, measurement: Measurement, folder: str) -> dict[str, str]:
        """The files that a measurement writes, by the name of the table."""
        return {table.name: f"{folder}/{table.file}" for table in measurement.tables}

    def block_inputs(self, measurement: Measurement) -> Inputs:
        """The files that a measurement of a block needs."""

        def inputs(wildcards: Wildcards) -> dict[str, Any]:
            folder = f"{RUN}/{{block}}"
            needed = {table.name: f"{folder}/{table.file}" for table in self._needed(measurement)}
            return {"dataset": DATASET, "checkpoints": f"{folder}/{CHECKPOINTS}"} | needed

        return inputs

    def landmark_inputs(self, measurement: Measurement) -> Inputs:
        """The files that a measurement of the landmarks of a run needs, and those that may have them already."""

        def inputs(wildcards: Wildcards) -> dict[str, Any]:
            run = self.run_of(wildcards)
            own = {f"own_{table.name}": self._measured(run, measurement, table) for table in measurement.tables}
            needed = {table.name: f"{RUN}/{LANDMARKS}/{table.file}" for table in self._needed(measurement)}
            trained = self._of_new_blocks(run, CHECKPOINTS)
            return {"dataset": DATASET, "metrics": f"{RUN}/{METRICS}", "checkpoints": trained} | own | needed

        return inputs

    def table_inputs(self, measurement: Measurement) -> Inputs:
        """The files that a measurement of tables needs, of all blocks and the landmarks."""

        def inputs(wildcards: Wildcards) -> dict[str, Any]:
            run = self.run_of(wildcards)
            found: dict[str, Any] = {"kept": self._kept_files(run, measurement, "")}
            needs = self._needs(measurement)
            for table in self._needed(measurement):
                blocks = self._of_new_blocks(run, table.file, needs)
                found[table.name] = [*blocks, f"{RUN}/{LANDMARKS}/{table.file}"]
            return found

        return inputs

    def pair_inputs(self, measurement: Measurement) -> Inputs:
        """The files that a measurement of pairs in a block needs: of the last measured block before, and of this one.

        None are of kept blocks, since tensors are not kept.
        """

        def inputs(wildcards: Wildcards) -> dict[str, Any]:
            needs = self._needs(measurement)
            measured = self._taken(self.new_blocks(self.run_of(wildcards)), needs)
            before = [block for block in measured if block.last < self.block_of(wildcards).first]
            folders = [*(f"{RUN}/{block.path}" for block in before[-1:]), f"{RUN}/{{block}}"]
            files = {"checkpoints": CHECKPOINTS} | {table.name: table.file for need in needs for table in need.tables}
            return {"dataset": DATASET} | {name: [f"{each}/{file}" for each in folders] for name, file in files.items()}

        return inputs

    def run_inputs(self, measurement: Measurement) -> Inputs:
        """The files that a measurement of a run needs, at all checkpoints, the kept ones included.

        For one at the lowest validation loss also the metrics, and its own kept tables: that checkpoint may be kept.
        """

        def inputs(wildcards: Wildcards) -> dict[str, Any]:
            run = self.run_of(wildcards)
            tables = [(need, table) for need in self._needs(measurement) for table in need.tables]
            needed = {t.name: self.files_of_run(run, need, t) for need, t in tables if t.suffix != "safetensors"}
            if not measurement.at_minimum:
                return needed
            kept = self._kept_files(run, measurement, "")
            own = {f"own_{t.name}": [path for path in kept if path.endswith(t.file)] for t in measurement.tables}
            return {"metrics": f"{RUN}/{METRICS}"} | own | needed

        return inputs

    def selection(self, measurement: Measurement) -> Inputs:
        """The parameter `checkpoints` of a measurement of gradients: which of a block it takes."""
        return lambda wildcards: asdict(self.config.checkpoints_of(measurement.name, self.block_of(wildcards)))

    def options(self, measurement: Measurement) -> dict[str, Any]:
        """The parameter `options`."""
        return options_given(measurement, self.config.all_options)

    def code_of(self, measurement: Measurement, step: str) -> Inputs:
        """The hash of what measures a run.

        Args:
            step: the function of `execution.steps` that the rule calls.
        """
        own = f"{measured.module(measurement)}:{measurement.measure.__name__}"
        starts = [own, f"execution.steps:{step}"]
        tables = [table.form for table in (*measurement.tables, *self._needed(measurement))]
        if measurement.scope in ("tables", "run"):
            return lambda wildcards: [code_hash(*starts), *tables]
        return lambda wildcards: [
            code_hash(*starts, *self._code_of_network(wildcards.model), "data.dataset"),
            *tables,
        ]

    # ---- files ----------------------------------------------------------------------------------------------------

    def files_of_run(self, run: Run, measurement: Measurement, table: Table) -> list[str]:
        """The files of a table of a run: of its blocks and landmarks, or one for the whole run."""
        if measurement.scope == "gradients":
            landmarks = self._kept_files(run, measurement, LANDMARKS)
            kept = [path for path in landmarks if path.endswith(table.file)]
            new = [f"<results>/runs/{run.path}/{LANDMARKS}/{table.file}"] if self.new_blocks(run) else []
            return self._of_all_blocks(run, table.file, [measurement]) + kept + new
        if measurement.scope == "pair":
            return self._of_all_blocks(run, table.file, self._needs(measurement))
        if self.new_blocks(run) or self.made_from_kept(run, measurement):
            return [f"<results>/runs/{run.path}/{table.file}"]
        return [path for path in self._kept_files(run, measurement, "") if path.endswith(table.file)]

    def made_from_kept(self, run: Run, measurement: Measurement) -> bool:
        """Whether a measurement of a kept run, which is not kept itself, is made from the tables that are.

        One at the lowest validation loss is not: it takes tables of samples, which are not kept.
        """
        of_run = measurement.scope == "run" and not measurement.at_minimum
        if not of_run or self.new_blocks(run) or self._kept_files(run, measurement, ""):
            return False
        needed = [(need, table) for need in self._needs(measurement) for table in need.tables if table.kept]
        return all(self.files_of_run(run, need, table) for need, table in needed)

    def source_files(self, wildcards: Wildcards) -> list[str]:
        """The user's files that a data set comes from."""
        return source.source_files(wildcards.dataset, self.config.machine.data_dir)

    def code_of_dataset(self, wildcards: Wildcards) -> str:
        """The hash of what reads a data set from its source."""
        found = source.source_of(wildcards.dataset, self.config.machine.data_dir)
        return code_hash(f"{source.module(found)}:{found.load.__name__}", "data.dataset")

    def _needs(self, measurement: Measurement) -> list[Measurement]:
        return [self.measurements[need] for need in measurement.needs]

    def _needed(self, measurement: Measurement) -> list[Table]:
        tables = [table for need in self._needs(measurement) for table in need.tables]
        return [table for table in tables if table.suffix != "safetensors" or table.name in measurement.tensors]

    def _taken(self, blocks: Sequence[Block], measurements: Sequence[Measurement]) -> list[Block]:
        """The blocks in which these measurements of gradients take some checkpoint in common."""
        return [
            block
            for block in blocks
            if in_common([self.config.checkpoints_of(each.name, block) for each in measurements])
        ]

    def _of_new_blocks(self, run: Run, file: str, measurements: Sequence[Measurement] = ()) -> list[str]:
        blocks = self._taken(self.new_blocks(run), measurements)
        return [f"<results>/runs/{run.path}/{block.path}/{file}" for block in blocks]

    def _of_all_blocks(self, run: Run, file: str, measurements: Sequence[Measurement] = ()) -> list[str]:
        kept = [f"{block.path}/{file}" for block in self.kept_blocks(run)]
        found = [f"{self.kept[run]}/{name}" for name in kept if archive.has(self.kept[run], name)]
        return found + self._of_new_blocks(run, file, measurements)

    def _kept_files(self, run: Run, measurement: Measurement, folder: str) -> list[str]:
        """The kept tables of a measurement in a folder of a run."""
        if run not in self.kept:
            return []
        names = [f"{folder}/{table.file}".lstrip("/") for table in measurement.tables]
        return [f"{self.kept[run]}/{name}" for name in names if archive.has(self.kept[run], name)]

    def _measured(self, run: Run, measurement: Measurement, table: Table) -> list[str]:
        """The files of a table of gradients that a run has before its landmarks are measured."""
        blocks = self._of_all_blocks(run, table.file, [measurement])
        return [path for path in self._kept_files(run, measurement, LANDMARKS) if path.endswith(table.file)] + blocks

    def _code_of_network(self, model: str) -> list[str]:
        known = network.networks().get(model)
        module = network.module(model)
        start = module if known is None else f"{module}:{known.build.__name__}"
        return [start, "training.networks.build"]
