"""The grid and every setting of the workflow: one pydantic model, with the defaults of config.yaml."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model, field_validator

from fishertail.measurements.measurement import GradientOptions, Measurement, Options, measurements
from fishertail.results.run import Block, Run
from fishertail.settings import NonNegativeInt, PositiveInt, Section, no_boolean
from fishertail.training.networks.network import DEFAULT_LOSS, Architecture, networks
from fishertail.training.precision import DEFAULT_PRECISION, PrecisionName, named
from fishertail.training.schedule import EPOCHS_WITH_OCTAVES, Selection, selected

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
NETWORK = "network"  # the scope of all layers together, beside the layers' own names
_DEVICE = r"[a-z][a-z0-9_]*(:\d+)?"


def _device(value: str) -> str:
    """Check the form of a device's name. Whether torch knows the device is checked when a job starts."""
    if not re.fullmatch(_DEVICE, value):
        raise ValueError("auto, or a device as torch names it (cpu, cuda, cuda:1, xpu, ...), expected")
    return value


Device = Annotated[str, Field(json_schema_extra={"pattern": f"^{_DEVICE}$"}), AfterValidator(_device)]


Pathvar = Literal["results", "logs", "benchmarks"]
Folder = Annotated[str, Field(pattern=r"^[^<>{}]+$")]  # what Snakemake replaces in paths is not known here


class FactoryArchitecture(Architecture):
    """Any other network, made by a function of your own."""

    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = Field(
        description="package.module:function that makes the network, called with shape, classes and arguments"
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments of the factory")


class _Architectures(BaseModel):
    """Networks by name: the built-in ones, and any other with a factory."""

    __pydantic_extra__: dict[Name, FactoryArchitecture] = Field(init=False)
    model_config = {"extra": "allow", "frozen": True}


class Machine(Section):
    """Changing these reruns nothing."""

    device: Device = Field(
        "auto", description="as torch names it, such as cpu, cuda:1, xpu; auto: an accelerator if there is one"
    )
    cpu_workers: PositiveInt = Field(1, description="processes that share a job's checkpoints where no GPU is used")
    memory_budget: Literal["auto"] | Annotated[float, Field(gt=0), BeforeValidator(no_boolean)] = Field(
        "auto", description="GiB of a job for per-sample gradients beyond data and model; auto: half of what is free"
    )
    data_dir: str = Field("data", description="where data sets are, or are downloaded to")
    gpus: PositiveInt = Field(1, description="GPUs over which a job spreads the checkpoints of a block")
    cpu_rules: Literal["local", "cluster"] = Field(
        "local", description="where rules that need no GPU run: on the login node, or as jobs of the cluster"
    )
    runtime_margin: Annotated[float, Field(ge=1), BeforeValidator(no_boolean)] = Field(
        2.0, description="runtime that a job asks for, as a multiple of its expected time"
    )


Value = TypeVar("Value", int, PrecisionName)
ByRun = PositiveInt | dict[str, PositiveInt]
_BY_RUN = "a number, or numbers by DATASET-MODEL/bsBATCH, DATASET-MODEL or 'default'; the most specific counts"


class Config(Section):
    """config.yaml, validated. Make one with `grid.checks.load`."""

    datasets: list[Name] = Field(["mnist", "cifar10"], min_length=1)
    models: list[Name] = Field(["fc", "conv"], min_length=1)
    batch_sizes: list[PositiveInt] = Field([16, 256], min_length=1)
    seeds: list[NonNegativeInt] = Field([0, 1, 2], min_length=1)
    only: Annotated[list[str], Field(min_length=1)] = Field(
        ["*"], description="patterns of the runs to take, such as mnist-fc/bs16/seed0, or */seed0"
    )
    kept: list[str] = Field([], description="folders of finished runs (fishertail.execution.keep), taken from there")
    epochs: ByRun = Field(30, description=f"number of epochs of a run: {_BY_RUN}")
    epochs_per_job: ByRun = Field(10, description=f"number of epochs that one job trains: {_BY_RUN}")
    precision: PrecisionName | dict[str, PrecisionName] = Field(
        DEFAULT_PRECISION,
        description="of products and convolutions in training and in its metrics: bfloat16 is mixed precision by "
        "torch.autocast, in which weights and updates stay in float32; what is measured is in float32 either way. "
        "One for all runs, or by run as `epochs`",
    )
    step_checkpoints: bool = Field(
        True, description="whether weights are also kept after 1, 2, 4, ... SGD steps of the first two epochs"
    )
    architectures: Any  # of `_architectures()`
    measurements: Any  # of `_measurements()`
    machine: Machine = Machine()
    pathvars: dict[Pathvar, Folder] = Field(
        {"benchmarks": "benchmarks/results"},
        description="folders of results, logs and benchmarks (Snakemake's path variables)",
    )

    @field_validator("datasets", "models", "batch_sizes", "seeds")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("entries must be distinct")
        return value

    @field_validator("epochs", "epochs_per_job", "precision")
    @classmethod
    def _by_run(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if "default" not in value:
                raise ValueError("a mapping needs the key 'default'")
            bad = [key for key in value if not re.fullmatch(r"default|\w+-\w+(/bs\d+)?", key)]
            if bad:
                raise ValueError(f"keys {bad} are not 'default', DATASET-MODEL or DATASET-MODEL/bsBATCH")
        return value

    @property
    def runs(self) -> list[Run]:
        """The runs of the grid that `only` takes."""
        return [run for run in self.all_runs if any(fnmatchcase(run.path, pattern) for pattern in self.only)]

    @property
    def all_runs(self) -> list[Run]:
        """Every combination of the grid, whatever `only` says."""
        return [
            Run(dataset, model, batch_size, seed)
            for dataset in self.datasets
            for model in self.models
            for batch_size in self.batch_sizes
            for seed in self.seeds
        ]

    @property
    def known_architectures(self) -> list[str]:
        """The names that `models` may have."""
        return [*type(self.architectures).model_fields, *(self.architectures.model_extra or {})]

    def architecture(self, model: str) -> Architecture:
        """The entry of a model."""
        return cast(Architecture, getattr(self.architectures, model))

    def options(self, measurement: str) -> Options:
        """The section of a measurement."""
        return cast(Options, getattr(self.measurements, measurement))

    @property
    def enabled(self) -> dict[str, Measurement]:
        """The measurements that are made, by name."""
        return {name: each for name, each in measurements().items() if self.options(name).enabled}

    @property
    def all_options(self) -> dict[str, Options]:
        """The sections of all measurements, by name."""
        return {name: self.options(name) for name in measurements()}

    def setting(self, key: str) -> Any:
        """The value of a dotted key, as YAML has it."""
        value = self.model_dump(mode="json")
        for part in key.split("."):
            value = value[part]
        return value

    def parameters_of(self, run: Run) -> dict[str, Any]:
        """The run, and its network as far as it shapes the result."""
        architecture = self.architecture(run.model)
        # runs that were finished before there was another loss do not name theirs
        unnamed = {"figure_layer"} | ({"loss"} if architecture.loss == DEFAULT_LOSS else set())
        return asdict(run) | {"architecture": architecture.model_dump(exclude=unnamed) | named(self.precision_of(run))}

    def epochs_of(self, run: Run) -> int:
        """The number of epochs that `run` is trained for."""
        return _of_run(self.epochs, run)

    def precision_of(self, run: Run) -> PrecisionName:
        """The precision in which `run` is trained."""
        return _of_run(self.precision, run)

    def blocks(self, run: Run, after: int = 0) -> list[Block]:
        """The blocks of epochs of `run`, in order.

        Args:
            after: the number of epochs that are kept from before.
        """
        last, step = self.epochs_of(run), _of_run(self.epochs_per_job, run)
        return [Block(first, min(first + step - 1, last)) for first in range(after + 1, last + 1, step)]

    def octaves_in(self, block: Block) -> bool:
        """Whether a block keeps weights inside epochs."""
        return self.step_checkpoints and block.first <= EPOCHS_WITH_OCTAVES

    def checkpoints_of(self, measurement: str, block: Block) -> Selection:
        """The checkpoints of `block` at which a measurement of gradients is made."""
        options = cast(GradientOptions, self.options(measurement))
        return selected(options.checkpoints, block, octaves_kept=self.octaves_in(block))


def _of_run(values: Value | Mapping[str, Value], run: Run) -> Value:
    if not isinstance(values, Mapping):
        return values
    name = f"{run.dataset}-{run.model}"
    return next(values[key] for key in (f"{name}/bs{run.batch_size}", name, "default") if key in values)


def _architectures() -> type[BaseModel]:
    """The section `architectures`, with the registered networks."""
    fields: dict[str, Any] = {
        name: (network.architecture, Field(network.architecture.model_validate({}), description=network.meaning))
        for name, network in networks().items()
    }
    return create_model("Architectures", __base__=_Architectures, **fields)


def _measurements() -> type[BaseModel]:
    """The section `measurements`, with the registered ones."""
    fields: dict[str, Any] = {
        name: (each.options, Field(each.options(), description=each.question)) for name, each in measurements().items()
    }
    return create_model("Measurements", __base__=Section, **fields)


@cache
def complete() -> type[Config]:
    """The model of the whole configuration, with what is registered."""
    architectures, measured = _architectures(), _measurements()
    fields: dict[str, Any] = {
        "architectures": (architectures, Field(architectures())),
        "measurements": (measured, Field(measured())),
    }
    return create_model("Config", __base__=Config, **fields)


ONLY_HERE = {"machine", "pathvars", "kept"}  # keys on which no result depends


def as_yaml(config: Config) -> str:
    """The part of the configuration that results depend on."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json", exclude=ONLY_HERE), sort_keys=False)


def schema() -> dict[str, Any]:
    """The JSON schema of config.yaml."""
    return complete().model_json_schema()


def default() -> Config:
    """The configuration of an empty file: the paper's grid."""
    return complete().model_validate({})


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
