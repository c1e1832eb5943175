"""Measure a network while it trains, in anyone's training loop, without changing what the training does."""

import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import pandas as pd
import torch
from torch import nn

from fishertail import devices
from fishertail.errors import FishertailError, StorageError
from fishertail.execution.chosen import CHECKPOINT, DEFAULT, FAILURES, Failures, choose, reason
from fishertail.execution.live.identity import identity_of
from fishertail.execution.live.model import WatchedModel
from fishertail.execution.live.run_folder import RunFolder
from fishertail.execution.live.samples import POSITIONS, watched_samples
from fishertail.execution.live.scalars import scalars_of
from fishertail.execution.live.schedule import steps_of
from fishertail.execution.live.undisturbed import undisturbed
from fishertail.execution.measuring import Tables
from fishertail.execution.options import Given, checked_steps_per_epoch
from fishertail.execution.run_analysis import RunAnalysis
from fishertail.gradients.matrix import GradientMatrix
from fishertail.measurements.checkpoint import flat_parameters
from fishertail.measurements.measurement import MeasuredCheckpoint
from fishertail.measurements.measurement import tables as all_tables
from fishertail.results.provenance import machine, provenance
from fishertail.results.schema import Table, joined
from fishertail.training.metrics import METRICS

# in the column `measurement` of failures: nothing was kept; or what the caller gave is no number
FILES, SCALARS = "files", "scalars"
OF_ALL = ("train_loss", "train_accuracy")  # of all measured samples
RESERVED = (*OF_ALL, "epoch")  # columns that no number of the caller's may replace


class Watch:
    """Measures a network at some steps of its training, and keeps the tables.

    ```python
    watch = fishertail.Watch(model, images, labels, folder="watched")
    watch(0)
    for step, (batch, targets) in enumerate(batches, 1):
        loss = train_one_step(batch, targets)
        watch(step, loss=loss)
    ```

    Called once a step, it looks whether the step is due, and otherwise does nothing. A watched training is the same,
    bit for bit, as an unwatched one: a copy of the model is measured, in eval mode and without autocast, and random
    states are restored. What cannot be measured or written is a warning and a row of failures.csv, and training goes
    on. Of several processes that of rank 0 measures, while the others wait in their next exchange of gradients.

    Args:
        model: the network in training, also in `DistributedDataParallel` or `torch.compile`. If `fully_shard` is to cut
            it, make the Watch before that, and call it on all ranks.
        images, labels: the training samples, see `gradient_norms`. They are read into memory once.
        folder: where the tables are kept, in the files and columns of the workflow. If it holds earlier steps of the
            same run, they are not measured again.
        measurements: names of measurements (docs/reference.md); those that they need are added.
        options: of measurements, such as {"hessian": {"samples": 500}} (docs/measurements.md); they count before
            `layers`, `k`, `rtol` and `threshold`.
        schedule: at which steps: "n per octave" for 0 and the steps nearest to 2^(k / n), "every n", or a list.
        steps_per_epoch: SGD steps per epoch, for the column `epoch` = step / steps_per_epoch; NaN without it.
        layers: see `analyse_run`.
        k, rtol: see `fisher_eigenpairs`.
        threshold: distance of an outlier's norm from the median, in units of MAD.
        loss: see `gradient_norms`.
        learning_rate: see `analyse_run`.
        device: where to compute; by default where the model is.
        memory_budget, output: see `gradient_norms`.
        subset: measure so many samples, drawn once at random with `seed`; every file says so. By default all.

    Raises:
        UnsupportedModelError: the model, or a measurement of it, is not possible.
        StorageError: the folder is of another model, data or options, another process writes into it, or it cannot be
            written.
        DeviceError, NodeError, ValueError, TypeError: see `gradient_norms`.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        labels: Any = None,
        *,
        folder: str | Path,
        measurements: Sequence[str] = DEFAULT,
        options: Given | None = None,
        schedule: str | Iterable[SupportsIndex] = "4 per octave",
        steps_per_epoch: float | None = None,
        layers: Sequence[str] | None = None,
        k: int = 1,
        rtol: float = 1e-4,
        threshold: float = 10,
        loss: Callable[..., torch.Tensor] | None = None,
        learning_rate: float | None = None,
        device: str | torch.device | None = None,
        memory_budget: float | None = None,
        output: str | int | None = None,
        subset: int | None = None,
        seed: int = 0,
    ) -> None:
        self._schedule = steps_of(schedule)
        self._model = WatchedModel(model)
        self._device = devices.resolved(self._model.device if device is None else device)
        self._per_epoch = checked_steps_per_epoch(steps_per_epoch)
        self._loss, self._memory_budget, self._output = loss, memory_budget, output
        self._learning_rate = float("nan") if learning_rate is None else float(learning_rate)
        self._done: set[int] = set()  # steps that were measured, whether or not they could be written
        self._first: int | None = None  # of an earlier start's steps
        self._unwritten: list[pd.DataFrame] = []  # failures
        self._warned: set[str] = set()
        self._before: dict[str, MeasuredCheckpoint] = {}  # by measurement of pairs
        if not self._model.measures:
            return
        self._folder = RunFolder(folder, [*all_tables().values(), METRICS])
        with undisturbed(self._device):
            copy = self._model.copy()
            assert copy is not None  # since this process measures
            self._chosen = choose(
                copy, measurements, layers=layers, k=k, rtol=rtol, threshold=threshold, loss=loss, given=options
            )
            self._samples = watched_samples(images, labels, subset, seed, self._folder.positions())
            self._check(copy)
        self._run = identity_of(
            copy,
            self._samples,
            self._chosen,
            loss=loss,
            output=output,
            learning_rate=learning_rate,
            steps_per_epoch=steps_per_epoch,
        )
        self._folder.check(self._run)
        self._first = min(self._folder.measured, default=None)
        self._done |= self._folder.measured

    def __call__(self, step: SupportsIndex, **scalars: Any) -> dict[str, float]:
        """Measure if the step is due.

        Args:
            step: how many SGD steps have been taken; 0 before training. An integer of NumPy or torch will do, too.
            scalars: numbers of this step, such as the loss of its batch; those of measured steps become columns of
                metrics.csv. None is one that is not known. A `learning_rate` counts for this step.

        Returns:
            what was measured, for any logger: lambda_1/fc4, outliers/network, train_loss, ...; empty if nothing was.
        """
        try:
            if (step := operator.index(step)) not in self._schedule:
                return {}
        except TypeError:
            self._warn("step", f"step: a whole number expected, found {step!r}; nothing is measured")
            return {}
        return self._at(step, scalars)

    def analysis(self) -> RunAnalysis:
        """What was measured so far, which draws itself (`plot`), shows itself in a notebook, and makes a page (`page`).

        Raises:
            StorageError: nothing was measured yet, or this process does not measure.
        """
        if not self._model.measures:
            raise StorageError("analysis: the process of rank 0 expected, which measures, found another")
        return RunAnalysis.load(self._folder.path)

    def _at(self, step: int, given: Mapping[str, Any]) -> dict[str, float]:
        self._done = self._model.agreed(self._done)
        if step in self._done:
            if step == self._first:
                self._warn(
                    "restart",
                    f"step {step}: measured by an earlier start, and not again, whatever its weights; "
                    "a new training needs a folder of its own",
                    above=1,
                )
            return {}
        self._done.add(step)
        failures, found, numbers = Failures(), {}, {}
        scalars = _numbers(step, given, failures)
        try:
            with undisturbed(self._device):
                if (model := self._model.copy()) is None:
                    return {}
                found = self._measured(step, model, failures, scalars)
            numbers = scalars_of(self._chosen.measurements, found, step)
        except Exception as error:
            failures.add(CHECKPOINT, step, error)
        metrics = self._metrics(step, found, scalars)
        self._keep(step, found, metrics, failures)
        return numbers | {name: metrics[name] for name in OF_ALL if numbers and not math.isnan(metrics[name])}

    def _measured(self, step: int, model: nn.Module, failures: Failures, scalars: Mapping[str, float]) -> Tables:
        found = self._chosen.of_gradients(
            {step: model.state_dict()},
            failures,
            model=model,
            samples=self._samples.on(self._device),
            per_epoch=self._per_epoch,
            device=str(self._device),
            memory_budget=self._memory_budget,
            loss=self._loss,
            learning_rate=scalars.get("learning_rate", self._learning_rate),
            output=self._output,
        )

        def parameters(_: int) -> dict[str, torch.Tensor]:
            return flat_parameters(model)

        found |= self._chosen.of_tables(
            found, failures, parameters=parameters, per_epoch=self._per_epoch, before=self._before
        )
        self._before |= self._chosen.last(found, parameters)
        found = {name: self._samples.in_the_data_set(each) for name, each in found.items()}
        if self._chosen.of_scope("run"):
            metrics = pd.DataFrame([self._metrics(step, found, scalars)])
            earlier = self._folder.with_earlier(found | {METRICS.name: metrics}, step)
            found |= self._chosen.of_run(earlier, failures, last=step)
        return found

    def _check(self, model: nn.Module) -> None:
        """Compare a few samples' gradients with autograd now, so that what does not fit is an error before training."""
        inputs, targets = self._samples.on(self._device)
        matrix = GradientMatrix(
            model.eval(), inputs, targets, loss=self._loss, device=self._device, output=self._output
        )
        with matrix:
            for each in self._chosen.of_scope("gradients"):
                if each.check_samples is not None:
                    each.check_samples(matrix, self._loss, self._chosen.options[each.name])

    def _metrics(self, step: int, found: Tables, scalars: Mapping[str, float]) -> dict[str, float]:
        """A row of metrics.csv: what the norms say of the training samples, and what the caller does."""
        row = dict.fromkeys(METRICS.names, float("nan"))
        if len(norms := found.get("norms", ())):
            means = (float(norms[name].mean(skipna=False)) for name in ("loss", "correct"))
            row |= dict(zip(OF_ALL, means, strict=True))
        return row | dict(scalars) | {"step": step, "epoch": step / self._per_epoch}

    def _keep(self, step: int, found: Tables, metrics: Mapping[str, float], failures: Failures) -> None:
        """Write all that was measured at a step; what failed before, too, where that could not be written then."""
        self._note(failures)
        try:
            frames, tensors = self._parted(step, found, failures)
            frames[METRICS] = pd.DataFrame([metrics])
            if self._unwritten or (self._folder.path / FAILURES.file).exists():  # which may say that this step failed
                frames[FAILURES] = joined(self._unwritten or [FAILURES.empty()])
            whole = [table for each in self._chosen.of_scope("run") for table in each.tables]
            self._folder.add(step, frames, tensors, self._record(), whole)
            self._unwritten.clear()
        except Exception as error:
            unwritten = Failures()
            unwritten.add(FILES, step, error)
            self._note(unwritten)

    def _parted(self, step: int, found: Tables, failures: Failures) -> tuple[dict[Table, Any], dict[Table, Any]]:
        """The frames and the tensors of all that was measured at a step."""
        frames: dict[Table, Any] = {}
        tensors: dict[Table, Any] = {}
        for each in self._chosen.measurements:
            for table in each.tables if step not in failures.steps(each.name) else ():
                if table.name in found:
                    (tensors if table.suffix == "safetensors" else frames)[table] = found[table.name]
        if self._samples.seed is not None:
            frames[POSITIONS] = pd.DataFrame({"sample": self._samples.positions})
        return frames, tensors

    def _note(self, failures: Failures) -> None:
        """Keep failures until they are written, and warn of the first of each measurement."""
        if failures.rows:
            self._unwritten.append(failures.table(self._per_epoch))
        for step, name, why in failures.rows:
            self._warn(
                name,
                f"step {step}: {name} failed: {why}; training goes on, and failures.csv has what fails later",
                above=3,
            )

    def _warn(self, kind: str, text: str, above: int = 0) -> None:
        """Warn the caller of the Watch, some calls above, of the first of a kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, stacklevel=above + 3)

    def _record(self) -> dict[str, Any]:
        of_run = {key: value for key, value in self._run.items() if key != "data"}
        of_machine = machine(str(self._device), torch.get_num_threads())
        return provenance("watch", of_run, [self._run["data"]], of_machine)


def _numbers(step: int, given: Mapping[str, Any], failures: Failures) -> dict[str, float]:
    """What the caller gives; NaN for what is no number."""
    found = dict.fromkeys((name for name in given if name not in RESERVED), float("nan"))
    for name, value in given.items():
        if name in RESERVED:
            why = f"{name}: the name of a column of its own; give this number another one, such as batch_{name}"
            failures.add(SCALARS, step, FishertailError(why))
            continue
        try:
            if value is not None:
                found[name] = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except Exception as error:  # of whatever type it is
            failures.add(SCALARS, step, FishertailError(f"{name}: a number expected ({reason(error)})"))
    return found
