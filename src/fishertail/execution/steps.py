"""What the rules of a run do: train a block of epochs, and measure its checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import pandas as pd
import torch
from torch import nn

from fishertail.data import dataset
from fishertail.data.dataset import Dataset
from fishertail.errors import StorageError
from fishertail.execution import measuring
from fishertail.execution.job import Job
from fishertail.execution.measuring import Tables, Tensors
from fishertail.execution.unfinished import Unfinished, checksum
from fishertail.measurements.checkpoint import flat_parameters
from fishertail.measurements.collect import of_one_run, run_tables
from fishertail.measurements.measurement import MeasuredCheckpoint, Measurement, measurements
from fishertail.results import of_run, provenance, storage
from fishertail.results.run import LANDMARKS, RESUMED, Block
from fishertail.results.schema import Table, joined
from fishertail.statistics.minimum import lowest_validation_loss
from fishertail.training import checkpoints, sgd
from fishertail.training.checkpoints import Weights
from fishertail.training.losses import loss_of_run
from fishertail.training.metrics import METRICS, metrics_table
from fishertail.training.networks import factory
from fishertail.training.networks.build import of_run as network_of_run
from fishertail.training.schedule import Selection, landmarks, steps_per_epoch

Files = Mapping[str, Any]  # a rule's input or output: a path, or paths, by name


def train(job: Job, files: Files, outputs: Files) -> None:
    """Train a block of epochs; keep the weights and the metrics at its checkpoints."""
    run, epochs, data = job.parameters["run"], job.parameters["epochs"], dataset.read(files["dataset"])
    octaves, per_epoch = job.parameters["octaves"], steps_per_epoch(len(data.train_labels), run["batch_size"])
    model = network_of_run(run, data.shape, data.classes)
    if previous := files["previous"]:
        before = storage.read_provenance(previous[0])
        of_run.check(previous[0], before, run)
        if set(before.get("data", ())) - {data.content_hash}:
            raise StorageError(
                f"{previous[0]}: weights trained on the data set as it is expected, found those of another "
                f"{run['dataset']}: give back its samples, or remove this run to have it trained anew"
            )
        step, state = checkpoints.read_last(previous[0])
        expected = (epochs[0] - 1) * per_epoch
        if step != expected:
            raise StorageError(f"{previous[0]}: weights of step {expected} expected, found those of {step}")
        model.load_state_dict(state)
    record = job.provenance([data.content_hash], run=run, machine=True)
    steps = Selection(epochs, octaves).steps(Block.of(epochs), per_epoch)
    start = storage.tensor_checksum({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    saved = Unfinished("train", (METRICS, checkpoints.TABLE), outputs, record, dict.fromkeys(steps, start), _code(run))
    found = _trained(saved, epochs, per_epoch)
    left = [epoch for epoch in epochs if epoch * per_epoch not in found]
    if found:
        print(f"{len(epochs) - len(left)} of {len(epochs)} epochs are already trained, {RESUMED}")
        last = max(found)
        model.load_state_dict(checkpoints.of_step(found[last]["checkpoints"], last))
    for at in sgd.train_run(model, data, left, run, octaves=octaves, device=job.device) if left else ():
        metrics, weights = metrics_table({at.step: at.metrics}, per_epoch), checkpoints.named({at.step: at.weights})
        found[at.step] = {"metrics": metrics, "checkpoints": weights}
        saved.add(at.step, found[at.step])
    storage.write_table(joined([each["metrics"] for each in found.values()]), outputs["metrics"], record)
    tensors = {name: tensor for each in found.values() for name, tensor in each["checkpoints"].items()}
    storage.write_tensors(tensors, outputs["checkpoints"], record)
    saved.remove()


def _trained(saved: Unfinished, epochs: Sequence[int], per_epoch: int) -> dict[int, Tables]:
    """The checkpoints that were saved up to the end of an epoch, without a gap: training goes on after an epoch."""
    found, whole = saved.read(), {}
    for step in sorted(saved.inputs):
        if step not in found:
            break
        whole[step] = found[step]
    last = max((epoch * per_epoch for epoch in epochs if epoch * per_epoch in whole), default=-1)
    return {step: tables for step, tables in whole.items() if step <= last}


def put_metrics_together(job: Job, files: Sequence[str], outputs: Files) -> None:
    """The metrics of all blocks of a run, as one table."""
    run = job.parameters["run"]
    table = joined([of_run.read(path, METRICS, run) for path in files])
    record = job.provenance(provenance.data_of(files), run=run)
    storage.write_table(table.sort_values("step", kind="stable"), outputs["metrics"], record)


def measure_block(job: Job, files: Files, outputs: Files) -> None:
    """A measurement of gradients at the wanted checkpoints of a block of epochs."""
    measurement, run, data = _start(job, files)
    block = Block.of(job.parameters["epochs"])
    per_epoch = steps_per_epoch(len(data.train_labels), run["batch_size"])
    steps = Selection.of(job.parameters["checkpoints"]).steps(block, per_epoch)
    weights = _weights(files["checkpoints"], steps, run)
    needed = {name: of_run.read(files[name], run_tables()[name], run) for name in _needed(measurement)}
    tensors = _tensors(measurement, files, run)
    with _measured(job, measurement, weights, data, needed, tensors, outputs) as found:
        _write(job, measurement, found, outputs, data)


def measure_landmarks(job: Job, files: Files, outputs: Files) -> None:
    """A measurement of gradients at the landmarks of a run: checkpoints that are known only once it has finished.

    These are the lowest validation loss, twice its epoch, and the last. What was measured there in a block, or is kept
    from an earlier run, is reused.
    """
    measurement, run, data = _start(job, files)
    per_epoch = steps_per_epoch(len(data.train_labels), run["batch_size"])
    lowest = lowest_validation_loss(of_run.read(files["metrics"], METRICS, run))
    wanted = {epoch: epoch * per_epoch for epoch in landmarks(lowest.epoch, lowest.last_epoch)}
    blocks = map(Block.of, job.parameters["blocks"])
    trained = list(zip(blocks, files["checkpoints"], strict=True))

    parts: list[Tables] = _kept_landmarks(measurement, files, run)
    weights: dict[int, Weights] = {}
    for epoch, step in wanted.items():
        found = _known(measurement, files, step, run, Block(epoch, epoch))
        path = next((path for block, path in trained if epoch in block.epochs), None)
        if found is not None:
            parts.append(found)
        elif path is not None:
            weights |= _weights(path, [step], run)
        else:
            print(f"step {step} (epoch {epoch}): neither weights nor {measurement.name} are kept; left out")
    needed = {name: of_run.read(files[name], run_tables()[name], run) for name in _needed(measurement)}
    tensors = _tensors(measurement, files, run)
    with _measured(job, measurement, weights, data, needed, tensors, outputs) as found:
        _write(job, measurement, measuring.merged(measurement, [*parts, found]), outputs, data)


def measure_tables(job: Job, files: Files, outputs: Files) -> None:
    """A measurement from other measurements' tables, at all checkpoints of a run; one part is in memory at a time."""
    measurement = measurements()[job.parameters["measurement"]]
    run, options = job.parameters["run"], job.parameters["options"]
    parts: list[Tables] = [
        {table.name: of_run.read(path, table, run) for table in measurement.tables if path.endswith(table.file)}
        for path in files["kept"]
    ]
    names = _needed(measurement)
    for paths in zip(*(files[name] for name in names), strict=True):
        needed = {name: of_run.read(path, run_tables()[name], run) for name, path in zip(names, paths, strict=True)}
        if all(len(table) for table in needed.values()):
            parts.append(measuring.by_tables(measurement, options, needed))
    data = provenance.data_of([path for name in names for path in files[name]] + list(files["kept"]))
    record = job.provenance(data, run=run)
    found = measuring.merged(measurement, parts)
    for table in measurement.tables:
        storage.write_table(found[table.name], outputs[table.name], record)


def measure_run(job: Job, files: Files, outputs: Files) -> None:
    """A measurement from other measurements' tables of a whole run, or of its lowest validation loss."""
    measurement, run = measurements()[job.parameters["measurement"]], job.parameters["run"]
    if measurement.at_minimum:
        found = _at_minimum(measurement, job.parameters["options"], files, run)
    else:
        tables = {name: of_one_run(run_tables()[name], files[name], run) for name in _needed(measurement)}
        found = measuring.by_run(measurement, job.parameters["options"], tables)
    record = job.provenance(provenance.data_of(path for name in _needed(measurement) for path in files[name]), run=run)
    for table in measurement.tables:
        storage.write_table(found[table.name], outputs[table.name], record)


def _at_minimum(
    measurement: Measurement, options: Mapping[str, Any], files: Files, run: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """What a measurement of the lowest validation loss gives; where what it needs is not kept, what it once gave."""
    step = lowest_validation_loss(of_run.read(files["metrics"], METRICS, run)).step
    tables = {name: _rows_at(step, run_tables()[name], files[name], run) for name in _needed(measurement)}
    found = measuring.by_run(measurement, options, tables)
    earlier = {table.name: _rows_at(step, table, files[f"own_{table.name}"], run) for table in measurement.tables}
    return {name: rows if len(rows) else earlier[name] for name, rows in found.items()}


def _rows_at(step: int, table: Table, paths: Sequence[str], run: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a table at a step, of the first file that has them; one file is in memory at a time."""
    for path in paths:
        frame = of_run.read(path, table, run)
        if len(rows := frame[frame["step"] == step]):
            return rows.reset_index(drop=True)
    return table.empty()


def measure_pairs(job: Job, files: Files, outputs: Files) -> None:
    """A measurement of the checkpoints of a block of epochs, each with the one before it.

    The files of each name are those of the last block before that is measured, if there is one, and of this block.
    """
    measurement, run, data = _start(job, files)
    model = network_of_run(run, data.shape, data.classes)
    numbers = range(len(files["checkpoints"]))
    *earlier, own = [_checkpoints_of_block(measurement, files, number, run, model) for number in numbers]
    found = measuring.by_pairs(
        measurement,
        job.parameters["options"],
        own,
        per_epoch=steps_per_epoch(len(data.train_labels), run["batch_size"]),
        before=measuring.last_of(earlier[0]) if earlier else None,
    )
    _write(job, measurement, found, outputs, data)


def _checkpoints_of_block(
    measurement: Measurement, files: Files, number: int, run: Mapping[str, Any], model: nn.Module
) -> Iterator[MeasuredCheckpoint]:
    """The checkpoints of a block of a pair, the `number`-th of its files; the weights are loaded into `model`."""
    needed = [table for need in measurement.needs for table in measurements()[need].tables]
    tensors = {table.name: _read(files[table.name][number], table, run) for table in needed}
    tables = {name: tensors.pop(name) for name in _needed(measurement)}
    weights = _weights(files["checkpoints"][number], measuring.common_steps(tables), run)

    def parameters(step: int) -> dict[str, torch.Tensor]:
        model.load_state_dict(weights[step])
        return flat_parameters(model)

    return measuring.measured_checkpoints(tables, tensors, parameters)


def _start(job: Job, files: Files) -> tuple[Measurement, dict[str, Any], Dataset]:
    return measurements()[job.parameters["measurement"]], job.parameters["run"], dataset.read(files["dataset"])


def _needed(measurement: Measurement) -> list[str]:
    """The names of the tables that a measurement takes."""
    return [t.name for need in measurement.needs for t in measurements()[need].tables if t.suffix != "safetensors"]


def _tensors(measurement: Measurement, files: Files, run: Mapping[str, Any]) -> dict[str, Tensors]:
    """The tables of tensors that a measurement takes."""
    for name in measurement.tensors:
        of_run.check(files[name], storage.read_provenance(files[name]), run)
    return {name: storage.read_tensors(files[name]) for name in measurement.tensors}


def _weights(path: str, steps: Sequence[int], run: Mapping[str, Any]) -> dict[int, Weights]:
    of_run.check(path, storage.read_provenance(path), run)
    return checkpoints.read(path, steps)


def _code(run: Mapping[str, Any]) -> str:
    """A hash of the user's code that makes the network of a run; "" for a built-in network."""
    path = run["architecture"].get("factory")
    return factory.code(path) if path else ""


@contextmanager
def _measured(
    job: Job,
    measurement: Measurement,
    weights: Mapping[int, Weights],
    data: Dataset,
    tables: Mapping[str, pd.DataFrame],
    tensors: Mapping[str, Tensors],
    outputs: Files,
) -> Iterator[Tables]:
    """What a measurement gives at some checkpoints, of which an earlier start of the job may have saved some.

    Write the outputs inside the `with`: what was saved is removed once it has ended without an error.
    """
    run = job.parameters["run"]
    record = job.provenance([data.content_hash], run=run, machine=True)
    inputs = {step: checksum(state, tables, tensors, step) for step, state in weights.items()}
    saved = Unfinished(measurement.name, measurement.tables, outputs, record, inputs, _code(run))
    if known := saved.read():
        print(f"{len(known)} of {len(weights)} checkpoints are already measured, {RESUMED}")
    left = {step: state for step, state in weights.items() if step not in known}
    measure = partial(
        _of_share,
        measurement,
        run,
        data,
        job.parameters["options"],
        tables={name: table[table["step"].isin(list(left))] for name, table in tables.items()},
        tensors=tensors,
        device=job.device,
        memory_budget=job.budget_of_a_worker(),
        measured=saved.add,
    )
    parts = job.spread(measure, left) if left else []
    yield measuring.merged(measurement, [*known.values(), *parts])
    saved.remove()


def _of_share(
    measurement: Measurement,
    run: Mapping[str, Any],
    data: Dataset,
    options: Mapping[str, Any],
    weights: Mapping[int, Weights],
    *,
    tables: Mapping[str, pd.DataFrame],
    tensors: Mapping[str, Tensors],
    device: str,
    memory_budget: float | None,
    measured: measuring.Measured,
) -> Tables:
    """Measure some checkpoints of a job, in a process of its own."""
    return measuring.by_gradients(
        measurement,
        options,
        weights,
        model=network_of_run(run, data.shape, data.classes),
        samples=data.training_data(device),
        tables=tables,
        tensors=tensors,
        loss=loss_of_run(run).of_one,
        learning_rate=run["architecture"]["learning_rate"],
        per_epoch=steps_per_epoch(len(data.train_labels), run["batch_size"]),
        device=device,
        memory_budget=memory_budget,
        measured=measured,
    )


def _known(measurement: Measurement, files: Files, step: int, run: Mapping[str, Any], block: Block) -> Tables | None:
    """What was already measured at a checkpoint, in its block or in a kept run; None if nothing was."""
    first = measurement.tables[0]
    for path in files[f"own_{first.name}"]:
        folder = path.removesuffix(first.file)
        name = folder.rstrip("/").rpartition("/")[2]
        if name.startswith("epochs") and block.first not in Block.at(name).epochs:
            continue
        if step not in set(of_run.read(path, first, run)["step"]):
            continue
        others = {t.name: [p for p in files[f"own_{t.name}"] if p == folder + t.file] for t in measurement.tables}
        tables = {t.name: _read(others[t.name][0], t, run) for t in measurement.tables if others[t.name]}
        return measuring.at_steps(measurement, tables, [step])
    return None


def _kept_landmarks(measurement: Measurement, files: Files, run: Mapping[str, Any]) -> list[Tables]:
    """The landmarks of a run that was kept before it went on: E* may have moved, but they stay measured."""
    kept = {table: [p for p in files[f"own_{table.name}"] if f"/{LANDMARKS}/" in p] for table in measurement.tables}
    return [{table.name: _read(path, table, run)} for table, paths in kept.items() for path in paths]


def _read(path: str, table: Any, run: Mapping[str, Any]) -> Any:
    if table.suffix == "safetensors":
        of_run.check(path, storage.read_provenance(path), run)
        return storage.read_tensors(path)
    return of_run.read(path, table, run)


def _write(job: Job, measurement: Measurement, found: Tables, outputs: Files, data: Dataset) -> None:
    record = job.provenance([data.content_hash], run=job.parameters["run"], machine=True)
    for table in measurement.tables:
        if table.suffix == "safetensors":
            storage.write_tensors(cast(dict[str, torch.Tensor], found[table.name]), outputs[table.name], record)
        else:
            storage.write_table(found[table.name], outputs[table.name], record)
