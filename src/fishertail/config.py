"""The grid and every setting of the workflow: one pydantic model, whose defaults are config.yaml.

Faults are collected and reported together, each with its dotted path, before any job starts.
"""

import copy
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from fishertail import kept_runs, sources
from fishertail.errors import ConfigError
from fishertail.grid import Block, Run

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


def _whole(value: Any) -> Any:
    """Take the strings that `snakemake --config seeds=[0]` makes of numbers, and no booleans."""
    if isinstance(value, bool):
        raise ValueError("a whole number expected")
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number expected")
    return value


def _device(value: str) -> str:
    """As far as can be told without torch, which a job asks at its start."""
    if not re.fullmatch(_DEVICE, value):
        raise ValueError("auto, or a device as torch names it (cpu, cuda, cuda:1, xpu, ...), expected")
    return value


_DEVICE = r"[a-z][a-z0-9_]*(:\d+)?"
Device = Annotated[str, Field(json_schema_extra={"pattern": f"^{_DEVICE}$"}), AfterValidator(_device)]
Real = Annotated[float, BeforeValidator(_no_boolean)]
PositiveInt = Annotated[int, Field(strict=True, ge=1), BeforeValidator(_whole)]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0), BeforeValidator(_whole)]
Initialisation = Literal["lecun_normal", "torch"]

NETWORK = "network"  # the scope of all layers together, beside the layers' own names


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Architecture(_Section):
    """What belongs to a model of the grid; keys that a built-in model does not use are refused."""

    learning_rate: Real = Field(gt=0, description="constant rate of plain SGD, eq. (2)")
    figure_layer: str = Field(description="the layer of Fig. 2 to 6: the paper's 'one particular layer'")
    hidden_widths: list[PositiveInt] | None = Field(None, description="widths of the hidden fully connected layers")
    channels: list[PositiveInt] | None = Field(None, description="output channels of the convolutional layers")
    initialisation: Initialisation | None = Field(None, description="initial weights")
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = Field(
        None, description="package.module:function that makes any other model, called with shape, classes and arguments"
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments of the factory")


class Histogram(_Section):
    """Bins of a_x: symmetric about 0, logarithmic beyond `smallest`."""

    smallest: Real = Field(1e-8, gt=0, description="abs(a_x) below it is counted in one bin around 0")
    largest: Real = Field(1e4, gt=0, description="abs(a_x) from here on is counted as overflow")
    bins_per_decade: PositiveInt = 4


class Analysis(_Section):
    layers: Literal["all"] | list[str] = Field("all", description="layers of the spectra, 'network' for all together")
    spectrum_epochs: Literal["all"] | Annotated[list[NonNegativeInt], Field(min_length=1)] = Field(
        "all", description="epochs with eigenpairs, where a run has them; and that of lowest validation loss"
    )
    eigenpairs: PositiveInt = Field(1, description="how many of the largest")
    tolerance: Real = Field(1e-4, gt=0, lt=1, description="relative error of an eigenvalue")
    near_zero: Real = Field(0.1, gt=0, description="an abs(a_x) below it counts as near 0")
    trimmed_fraction: Real = Field(0.1, gt=0, lt=1, description="share of the samples left out in B of Fig. 6")
    outlier_threshold: Real = Field(10, gt=0, description="in units of MAD")
    outlier_reading: Literal["distance", "norm"] = Field(
        "distance", description="what exceeds the threshold: the distance from the median, or the norm itself"
    )
    histogram: Histogram = Histogram()

    @field_validator("spectrum_epochs")
    @classmethod
    def _sorted(cls, value):
        if value != "all" and any(b <= a for a, b in pairwise(value)):
            raise ValueError("epochs must be strictly increasing")
        return value


class Machine(_Section):
    device: Device = Field(
        "auto", description="as torch names it, such as cpu, cuda:1, xpu; auto: an accelerator where there is one"
    )
    cpu_workers: PositiveInt = Field(1, description="processes that share the epochs of a block where no GPU is used")
    memory_budget: Literal["auto"] | Annotated[float, Field(gt=0), BeforeValidator(_no_boolean)] = Field(
        "auto", description="GiB of a job for per-sample gradients beyond data and model; auto: half of what is free"
    )
    data_dir: str = Field("data", description="where data sets lie, or are downloaded to")
    gpus: PositiveInt = Field(1, description="GPUs of a job that spreads the epochs of a block over them")
    cpu_rules: Literal["local", "cluster"] = Field(
        "local", description="where rules that need no GPU run: on the login node, or as jobs of the cluster"
    )


ByRun = PositiveInt | dict[str, PositiveInt]
_BY_RUN = "a number, or numbers by DATASET-MODEL/bsBATCH, DATASET-MODEL or 'default'; the most exact counts"


class Config(_Section):
    """config.yaml, validated. Make one with `load`."""

    datasets: list[Name] = Field(["mnist", "cifar10"], min_length=1)
    models: list[Name] = Field(["fc", "conv"], min_length=1)
    batch_sizes: list[PositiveInt] = Field([16, 256], min_length=1)
    seeds: list[NonNegativeInt] = Field([0, 1, 2], min_length=1)
    only: Annotated[list[str], Field(min_length=1)] = Field(
        ["*"], description="patterns of the runs to take, such as mnist-fc/bs16/seed0, or */seed0"
    )
    kept: list[str] = Field([], description="folders of finished runs (fishertail.kept_runs), taken from there")
    epochs: ByRun = Field(30, description=f"for which a run is trained: {_BY_RUN}")
    epochs_per_job: ByRun = Field(10, description=f"of a run that one job trains: {_BY_RUN}")
    architectures: dict[Name, Architecture] = {
        "fc": Architecture(
            learning_rate=0.05, figure_layer="fc4", hidden_widths=[500] * 4, initialisation="lecun_normal"
        ),
        "conv": Architecture(
            learning_rate=0.001,
            figure_layer="fc2",
            channels=[32, 32, 64, 64],
            hidden_widths=[512, 256],
            initialisation="lecun_normal",
        ),
    }
    analysis: Analysis = Analysis()
    machine: Machine = Machine()
    pathvars: dict[str, str] = Field(
        {"benchmarks": "benchmarks/results"}, description="where results and logs go (Snakemake's path variables)"
    )

    @field_validator("datasets", "models", "batch_sizes", "seeds")
    @classmethod
    def _distinct(cls, value):
        if len(set(value)) < len(value):
            raise ValueError("entries must be distinct")
        return value

    @field_validator("epochs", "epochs_per_job")
    @classmethod
    def _by_run(cls, value):
        if isinstance(value, dict):
            if "default" not in value:
                raise ValueError("a mapping needs the key 'default'")
            bad = [key for key in value if not re.fullmatch(r"default|\w+-\w+(/bs\d+)?", key)]
            if bad:
                raise ValueError(f"keys {bad} are not 'default', DATASET-MODEL or DATASET-MODEL/bsBATCH")
        return value

    @property
    def runs(self) -> list[Run]:
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

    def parameters_of(self, run: Run) -> dict:
        """The run, and its network as far as it shapes the result."""
        return asdict(run) | {"architecture": self.architectures[run.model].model_dump(exclude={"figure_layer"})}

    def epochs_of(self, run: Run) -> int:
        """The number of epochs that `run` is trained for."""
        return _of_run(self.epochs, run)

    def blocks(self, run: Run) -> list[Block]:
        """The blocks of epochs of `run`, in order."""
        last, step = self.epochs_of(run), _of_run(self.epochs_per_job, run)
        return [Block(first, min(first + step - 1, last)) for first in range(1, last + 1, step)]

    def spectrum_epochs_of(self, block: Block) -> list[int]:
        """The epochs of `block` whose eigenpairs are wanted."""
        wanted = self.analysis.spectrum_epochs
        return [epoch for epoch in block.epochs if wanted == "all" or epoch in wanted]


def _of_run(numbers: int | Mapping[str, int], run: Run) -> int:
    if isinstance(numbers, int):
        return numbers
    name = f"{run.dataset}-{run.model}"
    return next(numbers[key] for key in (f"{name}/bs{run.batch_size}", name, "default") if key in numbers)


ONLY_HERE = {"machine", "pathvars", "kept"}  # keys on which no result depends


def load(raw: Mapping[str, Any], *, check_sources: bool = True) -> Config:
    """Validate a configuration.

    Args:
        raw: the mapping that YAML gave.
        check_sources: also look whether data sets that are files exist, and whether factories can be imported.

    Raises:
        ConfigError: lists every fault with its dotted path, what was expected and what was found.
    """
    config, faults, broken = _validate(raw)
    faults += [f"{path}: {fault}" for path, fault in _cross_faults(config, broken, check_sources)]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in dict.fromkeys(faults))
        raise ConfigError(f"the configuration has {len(dict.fromkeys(faults))} fault(s):\n{lines}")
    return config


def as_yaml(config: Config) -> str:
    """What of the configuration results depend on."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json", exclude=ONLY_HERE), sort_keys=False)


def schema() -> dict:
    """The JSON schema of config.yaml."""
    return Config.model_json_schema()


_STAND_INS = {"learning_rate": 1.0, "figure_layer": NETWORK}  # for the keys of an architecture without a default


def _validate(raw: Mapping[str, Any]) -> tuple[Config, list[str], set[str]]:
    """A configuration, the faults of single keys, and the dotted paths of these keys, which hold defaults in it."""
    rest, faults, broken = copy.deepcopy(dict(raw)), [], set()
    while True:
        try:
            return Config.model_validate(rest), faults, broken
        except ValidationError as error:
            found = error.errors()
            faults += _described(found)
            for path in {_innermost(rest, fault["loc"]) for fault in found}:
                _set_aside(rest, path)
                broken.add(".".join(map(str, path)))


def _innermost(raw: dict, location: tuple) -> tuple:
    """The path of the innermost key on the way to `location` that `raw` has, or that an architecture must have."""
    path, inner = (), raw
    for part in location:
        key = next((key for key in inner if str(key) == str(part)), None) if isinstance(inner, dict) else None
        if key is None:
            required = len(path) == 2 and path[0] == "architectures" and part in _STAND_INS
            return (*path, part) if required else path
        path, inner = (*path, key), inner[key]
    return path


def _set_aside(raw: dict, path: tuple) -> None:
    """Give the key at `path` its default."""
    *sections, key = path
    inner = raw
    for section in sections:
        inner = inner.get(section, {})  # gone where it is faulty as a whole, too
    if len(path) == 3 and path[0] == "architectures" and key in _STAND_INS:
        inner[key] = _STAND_INS[key]
    else:
        inner.pop(key, None)


_UNION_TAGS = re.compile(r"^(constrained-|list\[|dict\[|literal\[|int$|float$|function-)")
_WRONG_KIND = ("dict_type", "list_type", "literal_error", "int_type", "int_parsing", "float_type", "float_parsing")


def _described(found: list) -> list[str]:
    """A line for each faulty key, whatever the number of types that it may have."""
    by_path: dict[str, list] = {}
    for fault in found:
        # drop the tags by which pydantic tells the members of a union apart: users know their keys only
        path = ".".join(str(part) for part in fault["loc"] if not _UNION_TAGS.match(str(part)))
        by_path.setdefault(path, []).append(fault)
    lines = []
    for path, faults in by_path.items():
        # where a member of a union took the value, it says more, about the value or about a part of it
        saying_more = [fault for fault in faults if fault["type"] not in _WRONG_KIND]
        if saying_more or not any(other.startswith(f"{path}.") for other in by_path):
            lines.append(_line(path, saying_more or faults))
    return lines


def _line(path: str, faults: list) -> str:
    if faults[0]["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    messages = [fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for fault in faults]
    start = "input should be " if faults[0]["msg"].startswith("Input should be ") else ""
    message = " or ".join(dict.fromkeys(messages))
    return f"{path}: {start}{message if start else message[0].lower() + message[1:]}, found {faults[0]['input']!r}"


def _cross_faults(config: Config, broken: set[str], check_sources: bool) -> Iterator[tuple[str, str]]:
    """Faults that concern more than one key; what depends on keys in `broken`, which hold defaults, is left alone."""

    def intact(*paths: str) -> bool:
        sections = {".".join(path.split(".")[: i + 1]) for path in paths for i in range(path.count(".") + 1)}
        return not sections & broken

    for name, architecture in config.architectures.items():
        for key, fault in _architecture_faults(name, architecture):
            if intact(f"architectures.{name}.{key}", f"architectures.{name}.factory"):
                yield f"architectures.{name}.{key}", fault
    if intact("models"):
        for index, model in enumerate(config.models):
            if model not in config.architectures and intact(f"architectures.{model}"):
                yield f"models.{index}", f"unknown model {model!r}, expected one of {', '.join(config.architectures)}"
    if intact("datasets"):
        yield from _dataset_faults(config, intact, check_sources)
    if intact("only", "datasets", "models", "batch_sizes", "seeds"):
        for index, pattern in enumerate(config.only):
            if not any(fnmatchcase(run.path, pattern) for run in config.all_runs):
                yield (
                    f"only.{index}",
                    f"a pattern of runs such as {config.all_runs[0].path} expected, found {pattern!r}",
                )
    networks_broken = any(path.startswith("architectures") for path in broken)
    grid = ("only", "datasets", "models", "batch_sizes", "seeds", "epochs")
    if check_sources and not networks_broken and intact("kept", *grid):
        yield from _kept_faults(config)
    yield from _layer_faults(config, intact, check_sources)
    yield from _epoch_faults(config, intact)
    histogram = config.analysis.histogram
    keys = ("analysis.histogram.smallest", "analysis.histogram.largest")
    if intact(*keys) and histogram.smallest >= histogram.largest:
        yield keys[0], f"less than largest ({histogram.largest}) expected, found {histogram.smallest}"


def _kept_faults(config: Config) -> Iterator[tuple[str, str]]:
    for index, folder in enumerate(config.kept):
        if not (Path(folder) / "runs").is_dir():
            yield f"kept.{index}", f"a folder with finished runs in runs/ expected, found {folder!r}"
    for run in config.runs:
        place = kept_runs.find(config.kept, run.path)
        if place is not None and run.model in config.architectures:
            faults = kept_runs.faults(place, config.parameters_of(run), config.epochs_of(run))
            yield from (("kept", fault) for fault in faults)


def _epoch_faults(config: Config, intact: Callable[..., bool]) -> Iterator[tuple[str, str]]:
    if not intact("datasets", "models", "batch_sizes"):
        return
    if intact("epochs") and config.analysis.spectrum_epochs != "all":
        first, longest = config.analysis.spectrum_epochs[0], max(config.epochs_of(run) for run in config.all_runs)
        if first > longest:
            yield (
                "analysis.spectrum_epochs",
                f"some up to {longest} (the key epochs) expected, found {first} as the first",
            )
    for name, numbers in (("epochs", config.epochs), ("epochs_per_job", config.epochs_per_job)):
        for key in numbers if intact(name) and isinstance(numbers, dict) else ():
            # an overlay may cut the grid, so only names that no key could mean are faults
            model = key.split("/")[0].rpartition("-")[2]
            if key != "default" and model not in config.architectures and intact(f"architectures.{model}"):
                yield f"{name}.{key}", f"unknown model {model!r}, expected one of {', '.join(config.architectures)}"


_BUILT_IN_KEYS = {"fc": ("hidden_widths", "initialisation"), "conv": ("channels", "hidden_widths", "initialisation")}


def _architecture_faults(name: str, architecture: Architecture) -> Iterator[tuple[str, str]]:
    own = ("channels", "hidden_widths", "initialisation")
    if architecture.factory is None:
        if name not in _BUILT_IN_KEYS:
            yield "factory", "required for a model that is not fc or conv"
            return
        needed = _BUILT_IN_KEYS[name]
        for key in own:
            value = getattr(architecture, key)
            if key in needed and value is None:
                yield key, f"required for the model {name}"
            elif key not in needed and value is not None:
                yield key, f"not a key of the model {name}"
        if name == "conv" and architecture.channels is not None and len(architecture.channels) != 4:
            yield "channels", f"four numbers expected, found {len(architecture.channels)}"
        if architecture.arguments:
            yield "arguments", "only a factory takes arguments"
    else:
        for key in own:
            if getattr(architecture, key) is not None:
                yield key, "not a key of a model with a factory (see arguments)"
        if not _importable(architecture.factory):
            yield "factory", f"an importable module expected, found {architecture.factory.split(':')[0]!r}"


def _importable(factory: str) -> bool:
    try:
        return importlib.util.find_spec(factory.split(":")[0]) is not None
    except Exception:  # a package around the module is imported, which may raise anything
        return False


def _dataset_faults(config: Config, intact: Callable[..., bool], check_sources: bool) -> Iterator[tuple[str, str]]:
    for index, dataset in enumerate(config.datasets):
        try:
            samples = sources.training_samples(dataset, Path(config.machine.data_dir), check_files=check_sources)
        except sources.SourceError as error:
            if intact("machine.data_dir"):
                yield f"datasets.{index}", str(error)
            continue
        if samples is not None and intact("batch_sizes"):
            for position, batch_size in enumerate(config.batch_sizes):
                if batch_size > samples:
                    yield (
                        f"batch_sizes.{position}",
                        f"at most {samples} (the training samples of {dataset}) expected, found {batch_size}",
                    )


def _layer_faults(config: Config, intact: Callable[..., bool], check_sources: bool) -> Iterator[tuple[str, str]]:
    wanted = config.analysis.layers
    known, complete = {NETWORK}, intact("models")
    for model in config.models:
        path = f"architectures.{model}"
        architecture = config.architectures.get(model)
        if architecture is None and intact(path):
            continue  # an unknown model is a fault of its own
        layers = None
        if intact(*(f"{path}.{key}" for key in ("factory", "arguments", "channels", "hidden_widths"))):
            try:
                layers = _layers_of(model, architecture, check_sources)
            except Exception as error:
                yield f"{path}.factory", f"calling {architecture.factory} failed: {error}"
        if layers is None:
            complete = False
            continue
        known.update(layers)
        if not intact(f"{path}.figure_layer"):
            continue
        if architecture.figure_layer not in {*layers, NETWORK}:
            expected = ", ".join([*layers, NETWORK])
            yield f"{path}.figure_layer", f"one of {expected} expected, found {architecture.figure_layer!r}"
        elif wanted != "all" and intact("models") and architecture.figure_layer not in wanted:
            yield "analysis.layers", f"must contain the figure layer {architecture.figure_layer!r} of {model}"
    if wanted != "all" and complete:
        for index, layer in enumerate(wanted):
            if layer not in known:
                yield f"analysis.layers.{index}", f"one of {', '.join(sorted(known))} expected, found {layer!r}"


def _layers_of(name: str, architecture: Architecture, check_sources: bool) -> list[str] | None:
    """The layers of a model, None where they cannot be told; raises whatever a factory raises."""
    if architecture.factory is None:
        needed = _BUILT_IN_KEYS.get(name)
        if needed is None or any(getattr(architecture, key) is None for key in needed):
            return None
        convolutions = [f"conv{i + 1}" for i in range(len(architecture.channels or []))]
        return convolutions + [f"fc{i + 1}" for i in range(len(architecture.hidden_widths) + 1)]
    if not check_sources or not _importable(architecture.factory):
        return None
    from fishertail import models  # imports torch, which only a factory makes necessary here

    return models.factory_layer_names(architecture.factory, architecture.arguments)


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
