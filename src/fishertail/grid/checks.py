"""Faults that concern more than one key, found before any job starts and reported all together."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fishertail.data import source
from fishertail.errors import ConfigError, FishertailError
from fishertail.grid.config import NETWORK, Config, FactoryArchitecture, complete
from fishertail.grid.faults import validated
from fishertail.measurements.measurement import Measurement, measurements, options_given
from fishertail.results import archive
from fishertail.training.networks import factory
from fishertail.training.networks.network import DEFAULT_LOSS, Architecture, networks

Faults = Iterator[tuple[str, str]]  # dotted path and fault
Intact = Callable[..., bool]  # whether keys, and what is in them, hold what the user gave


def load(raw: Mapping[str, Any], *, check_sources: bool = True) -> Config:
    """Validate a configuration.

    Args:
        raw: the mapping that YAML gave.
        check_sources: also look whether data sets that are files exist, and whether factories can be imported.

    Raises:
        ConfigError: lists every fault with its dotted path, what was expected and what was found.
    """
    config, faults, broken = validated(complete(), raw)
    faults += [f"{path}: {fault}" for path, fault in _cross_faults(config, broken, check_sources)]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in dict.fromkeys(faults))
        raise ConfigError(f"the configuration has {len(dict.fromkeys(faults))} fault(s):\n{lines}")
    return config


def _cross_faults(config: Config, broken: set[str], check_sources: bool) -> Faults:
    """What depends on keys in `broken`, which hold defaults, is left alone."""

    def intact(*paths: str) -> bool:
        sections = {".".join(path.split(".")[: i + 1]) for path in paths for i in range(path.count(".") + 1)}
        return not sections & broken

    if intact("models"):
        for index, model in enumerate(config.models):
            if model not in config.known_architectures and intact(f"architectures.{model}"):
                known = ", ".join(config.known_architectures)
                yield f"models.{index}", f"unknown model {model!r}, expected one of {known}"
    for name, architecture in (config.architectures.model_extra or {}).items():
        if intact(f"architectures.{name}.factory") and not _importable(architecture.factory):
            module = architecture.factory.split(":")[0]
            hint = "for one in src/: pip install -e ., or PYTHONPATH=src"
            yield f"architectures.{name}.factory", f"an importable module expected, found {module!r} ({hint})"
    if intact("datasets"):
        yield from _dataset_faults(config, intact, check_sources)
    if intact("only", "datasets", "models", "batch_sizes", "seeds"):
        for index, pattern in enumerate(config.only):
            if not any(fnmatchcase(run.path, pattern) for run in config.all_runs):
                example = config.all_runs[0].path
                yield f"only.{index}", f"a pattern of runs such as {example} expected, found {pattern!r}"
    networks_broken = any(path.startswith("architectures") for path in broken)
    grid = ("only", "datasets", "models", "batch_sizes", "seeds", "epochs")
    if check_sources and not networks_broken and intact("kept", *grid):
        yield from _kept_faults(config)
    yield from _layer_faults(config, intact, check_sources)
    yield from _by_run_faults(config, intact)
    if not any(path.startswith("measurements") for path in broken):
        yield from _measurement_faults(config, intact)
        if check_sources and not networks_broken and intact("models"):
            yield from _loss_faults(config)


def _dataset_faults(config: Config, intact: Intact, check_sources: bool) -> Faults:
    for index, dataset in enumerate(config.datasets):
        samples = None
        if check_sources:
            try:
                samples = source.training_samples(dataset, config.machine.data_dir)
                files = source.source_files(dataset, config.machine.data_dir)
            except source.UnknownDatasetError as error:
                if intact("machine.data_dir"):
                    yield f"datasets.{index}", str(error)
                continue
            if braced := [path for path in files if "{" in path or "}" in path]:  # wildcards for Snakemake
                yield f"datasets.{index}", f"files without braces in their names expected, found {braced[0]}"
        elif dataset in source.built_in():
            samples = source.built_in()[dataset].training_samples
        if samples is None:
            continue
        expected = f"at most {samples} (the training samples of {dataset}) expected"
        if intact("batch_sizes"):
            for position, batch_size in enumerate(config.batch_sizes):
                if batch_size > samples:
                    yield f"batch_sizes.{position}", f"{expected}, found {batch_size}"
        for name in ("spectrum", "true_fisher"):
            path = f"measurements.{name}"
            wanted = config.setting(f"{path}.eigenpairs") if config.options(name).enabled else 0
            if wanted > samples and intact(f"{path}.enabled", f"{path}.eigenpairs"):
                yield f"{path}.eigenpairs", f"{expected}, found {wanted}"


def _kept_faults(config: Config) -> Faults:
    for index, folder in enumerate(config.kept):
        if not (Path(folder) / "runs").is_dir():
            yield f"kept.{index}", f"a folder with finished runs in runs/ expected, found {folder!r}"
    for run in config.runs:
        place = archive.find(config.kept, run.path)
        if place is not None and run.model in config.known_architectures:
            faults = list(archive.faults(place, config.parameters_of(run), config.epochs_of(run)))
            yield from (("kept", fault) for fault in faults or _option_faults(config, place))


def _option_faults(config: Config, place: str) -> Iterator[str]:
    """Kept tables that were measured with other options than the grid's."""
    for name, each in config.enabled.items():
        wanted = options_given(each, config.all_options)
        for table in each.tables:
            for path in archive.files(place, table.file) if table.kept else ():
                for key, found, expected in _differing(archive.options(path), wanted):
                    yield f"{path}: measured with {name}.{key} {found!r}, expected {expected!r} (or remove this file)"


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys that both have, with other values; version 0.1 wrote fewer."""
    for key in found.keys() & expected.keys():
        if isinstance(found[key], Mapping) and isinstance(expected[key], Mapping):
            yield from ((f"{key}.{inner}", a, b) for inner, a, b in _differing(found[key], expected[key]))
        elif found[key] != expected[key]:
            yield key, found[key], expected[key]


def _by_run_faults(config: Config, intact: Intact) -> Faults:
    if not intact("datasets", "models", "batch_sizes"):
        return
    for name in ("epochs", "epochs_per_job", "precision"):
        values = getattr(config, name)
        for key in values if intact(name) and isinstance(values, dict) else ():
            # an overlay may cut the grid, so only names that no key could mean are faults
            model = key.split("/")[0].rpartition("-")[2]
            if key != "default" and model not in config.known_architectures and intact(f"architectures.{model}"):
                known = ", ".join(config.known_architectures)
                yield f"{name}.{key}", f"unknown model {model!r}, expected one of {known}"


def _measurement_faults(config: Config, intact: Intact) -> Faults:
    """Measurements that take others' tables, at checkpoints where these are not made."""
    for name, each in measurements().items():
        for need in each.needs if config.options(name).enabled else ():
            if not config.options(need).enabled:
                yield f"measurements.{need}.enabled", f"true expected, since {name} takes its tables; found False"
            elif intact("epochs", "epochs_per_job", "models", "datasets") and each.scope == "gradients":
                yield from _schedule_faults(config, each, need)


def _schedule_faults(config: Config, each: Measurement, need: str) -> Faults:
    for run in config.runs:
        for block in config.blocks(run):
            wanted, made = (config.checkpoints_of(name, block) for name in (each.name, need))
            missing = sorted(set(wanted.epochs) - set(made.epochs))
            if missing or (wanted.octaves and not made.octaves):
                where = f"epochs {', '.join(map(str, missing[:5]))}" if missing else "steps inside epochs"
                yield (
                    f"measurements.{each.name}.checkpoints",
                    f"only checkpoints of measurements.{need} expected, whose tables it takes, found {where} of "
                    f"{run.path}",
                )
                return


def _loss_faults(config: Config) -> Faults:
    """Measurements that do not apply to another loss than cross entropy, said before a run is trained by it."""
    checked = {name: each.check for name, each in config.enabled.items() if each.check is not None}
    for model in config.models if checked else ():
        if model not in config.known_architectures or config.architecture(model).loss == DEFAULT_LOSS:
            continue
        from fishertail.training.losses import LOSSES  # which imports torch

        wanted = config.architecture(model).loss
        try:
            network = factory.example(*_made_by(config, model))
        except Exception:
            continue  # a fault of its own
        for name, check in checked.items():
            try:
                check(network, LOSSES[wanted].of_one)
            except FishertailError as error:
                yield f"measurements.{name}.enabled", f"false expected for {model}, whose loss is {wanted} ({error})"


def _layer_faults(config: Config, intact: Intact, check_sources: bool) -> Faults:
    wanted = config.measurements.spectrum.layers
    known, complete_list = {NETWORK}, intact("models")
    for model in config.models:
        if model not in config.known_architectures:
            continue  # a fault of its own
        path, architecture = f"architectures.{model}", config.architecture(model)
        layers = None
        if intact(path) and not any(fault.startswith(f"{path}.") for fault in _inside(intact, path, architecture)):
            named = f"{path}.factory" if isinstance(architecture, FactoryArchitecture) else path
            what = getattr(architecture, "factory", model)
            try:
                layers = layers_of(config, model, check_sources)
            except Exception as error:
                yield named, f"calling {what} failed: {error}"
            if layers == []:
                yield named, f"a network with parameters expected, that of {what} has none"
        if not layers:
            complete_list = False
            continue
        known.update(layers)
        if not intact(f"{path}.figure_layer"):
            continue
        if architecture.figure_layer not in {*layers, NETWORK}:
            expected = ", ".join([*layers, NETWORK])
            yield f"{path}.figure_layer", f"one of {expected} expected, found {architecture.figure_layer!r}"
        elif wanted != "all" and intact("models") and architecture.figure_layer not in wanted:
            yield "measurements.spectrum.layers", f"the figure layer {architecture.figure_layer!r} of {model} expected"
    if wanted != "all" and complete_list and intact("measurements.spectrum.layers"):
        for index, layer in enumerate(wanted):
            if layer not in known:
                expected = ", ".join(sorted(known))
                yield f"measurements.spectrum.layers.{index}", f"one of {expected} expected, found {layer!r}"


def _inside(intact: Intact, path: str, architecture: Any) -> list[str]:
    """The keys of an architecture that are broken, but for those that do not shape its layers."""
    keys = [key for key in type(architecture).model_fields if key not in Architecture.model_fields]
    return [f"{path}.{key}" for key in keys if not intact(f"{path}.{key}")]


def layers_of(config: Config, model: str, check_sources: bool) -> list[str] | None:
    """The layers of a model, None where they are unknown; raises whatever building the model raises."""
    architecture = config.architecture(model)
    if isinstance(architecture, FactoryArchitecture):
        if not check_sources or not _importable(architecture.factory):
            return None
    elif (layers := networks()[model].layers) is not None:
        return layers(_own_options(architecture))
    return factory.layer_names(*_made_by(config, model)) if check_sources else None  # imports torch


def _made_by(config: Config, model: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that makes a model, and its options."""
    architecture = config.architecture(model)
    if isinstance(architecture, FactoryArchitecture):
        return factory.function(architecture.factory), architecture.arguments
    return networks()[model].build, _own_options(architecture)


def _own_options(architecture: Architecture) -> dict[str, Any]:
    return architecture.model_dump(exclude=set(Architecture.model_fields))


def _importable(path: str) -> bool:
    try:
        return importlib.util.find_spec(path.split(":")[0]) is not None
    except Exception:  # a package around the module is imported, which may raise anything
        return False
