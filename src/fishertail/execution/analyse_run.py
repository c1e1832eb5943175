"""Analyse your own training run with one call, on this machine or on a cluster, without Snakemake."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

from fishertail import devices
from fishertail.execution import measuring, workers
from fishertail.execution.checkpoint_files import Saved, weights_of
from fishertail.execution.chosen import CHECKPOINT, DEFAULT, FAILURES, Chosen, Failures, choose
from fishertail.execution.measuring import Tables
from fishertail.execution.options import Given, checked_steps_per_epoch
from fishertail.execution.run_analysis import RunAnalysis
from fishertail.gradients.inputs import samples_of
from fishertail.gradients.losses import check_class_weights
from fishertail.gradients.model_checks import check_model
from fishertail.measurements.checkpoint import flat_parameters


def analyse_run(
    model: nn.Module,
    checkpoints: Mapping[int, Saved],
    images: Any,
    labels: Any = None,
    *,
    steps_per_epoch: float | None = None,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
    threshold: float = 10,
    loss: Callable[..., torch.Tensor] | None = None,
    learning_rate: float | None = None,
    measurements: Sequence[str] = DEFAULT,
    options: Given | None = None,
    device: str = "auto",
    memory_budget: float | None = None,
    output: str | int | None = None,
    threads: int | None = None,
    cluster: Literal["slurm", "local"] | None = None,
    jobs: int = 1,
    folder: str | Path = "fishertail-jobs",
    **parameters: Any,
) -> RunAnalysis:
    """Norms, outliers, eigenpairs and a_x of every training sample at every checkpoint of a run.

    Args:
        model: the network; its own weights are not used.
        checkpoints: by SGD step, a state dict, a network of the same kind, or a file as `fishertail measure` reads it,
            whose weights may be below "state_dict" or "model", with the prefixes of wrappers. In version 0.1 the keys
            were epochs: multiply these by the steps per epoch, ceil(N / batch size).
        images, labels: the training samples, see `gradient_norms`. Jobs get a copy of them.
        steps_per_epoch: SGD steps per epoch, for the column `epoch` = step / steps_per_epoch; NaN without it.
        layers: those of the spectrum, and of what has the option `layers` with the same default (docs/measurements.md).
        k, rtol, memory_budget: see `fisher_eigenpairs`.
        loss, output: see `gradient_norms`.
        learning_rate: of the run, for measurements that compare it with the curvature; NaN without it.
        threshold: distance of an outlier's norm from the median, in units of MAD.
        measurements: names of measurements (docs/reference.md); those that they need are added.
        options: of measurements, such as {"hessian": {"samples": 500}} (docs/measurements.md); they count before
            `layers`, `k`, `rtol` and `threshold`.
        device: a device that torch knows; auto takes CUDA or another accelerator with float64 where there is one.
        threads: torch's threads in each job; by default those that the scheduler allots, or torch's own choice.
        cluster: None computes in this process; "local" in processes of this machine and "slurm" in jobs, by submitit.
        jobs: how many jobs share the checkpoints.
        folder: where submitit keeps scripts, logs and results; on Slurm all nodes must see it.
        parameters: those of submitit's executor, such as slurm_partition, slurm_account, timeout_min, gpus_per_node,
            cpus_per_task, mem_gb.

    What cannot be measured at a checkpoint, or not be read, is a row of `failures`, with the reason, and a warning; the
    other results stay. Where nothing can be measured at all, whatever the jobs, the first error is raised.

    Raises:
        WorkerError: a job died; the message ends with the last lines of its log. The others are cancelled.
        DeviceError: torch does not know the device, or it has no float64.
        NodeError: the machine, or that of a job, does not have the device; or submitit is not installed.
        FishertailError, ValueError, TypeError: see `fisher_eigenpairs`; ValueError also for an unknown
            measurement or option, or a wrong value of one.
    """
    check_model(model)
    _check_steps(checkpoints)
    if jobs < 1:
        raise ValueError(f"jobs: 1 or more expected, found {jobs}")
    if device != devices.AUTO:
        devices.known(device)  # before any job starts: a job's machine may have devices that this one lacks
    chosen = choose(model, measurements, layers=layers, k=k, rtol=rtol, threshold=threshold, loss=loss, given=options)
    samples = samples_of(images, labels)  # what they lack is an error before any job starts
    check_class_weights(loss, getattr(samples, "targets", None))
    per_epoch = checked_steps_per_epoch(steps_per_epoch)
    work = partial(
        _analyse,
        model,
        (images, labels),
        chosen,
        loss=loss,
        learning_rate=float("nan") if learning_rate is None else float(learning_rate),
        per_epoch=per_epoch,
        device=device,
        memory_budget=memory_budget,
        output=output,
        threads=threads,
    )
    shares = [dict(list(checkpoints.items())[first::jobs]) for first in range(min(jobs, len(checkpoints)))]
    if cluster is None:
        if parameters:
            raise ValueError(
                f"{', '.join(parameters)}: only with cluster='slurm' or 'local', as options of submitit; those of a "
                "measurement go into options={measurement: {option: value}}"
            )
        parts = [work(share) for share in shares]
    else:
        parts = workers.submit(work, shares, cluster=cluster, folder=folder, parameters=parameters)
    failures = Failures([row for _, of_part in parts for row in of_part.rows])
    tables: Tables = {}
    for each in chosen.of_scope("gradients"):
        tables |= measuring.merged(each, [part for part, _ in parts])
    errors = [of_part.first for _, of_part in parts if of_part.first is not None]
    if errors and not any(map(len, tables.values())):
        raise errors[0]
    weights_at = partial(_parameters, copy.deepcopy(model), checkpoints)
    tables |= chosen.of_tables(tables, failures, parameters=weights_at, per_epoch=per_epoch, before={})
    tables |= chosen.of_run(tables, failures, last=max(checkpoints))
    if failures.rows:
        tables[FAILURES.name] = failures.table(per_epoch)
        _warn(tables[FAILURES.name])
    return RunAnalysis(tables)


def _check_steps(checkpoints: Any) -> None:
    """Before a checkpoint is measured, which may take hours."""
    if not isinstance(checkpoints, Mapping):
        raise TypeError(
            f"checkpoints: a mapping of SGD steps to state dicts or files expected, found {type(checkpoints).__name__}"
        )
    if not checkpoints:
        raise ValueError("checkpoints: at least one SGD step expected, found none")
    for step in checkpoints:
        if not isinstance(step, Integral) or step < 0:
            raise ValueError(f"checkpoints: SGD steps, whole numbers of 0 or more, expected as keys, found {step!r}")


def _warn(failures: pd.DataFrame) -> None:
    first = failures.iloc[0]
    more = f" (and {len(failures) - 1} more; see RunAnalysis.failures)" if len(failures) > 1 else ""
    warnings.warn(f"step {first['step']}: {first['measurement']} failed: {first['reason']}{more}", stacklevel=3)


def _analyse(
    model: nn.Module,
    samples: tuple[Any, Any],
    chosen: Chosen,
    share: Mapping[int, Saved],
    *,
    loss: Callable[..., torch.Tensor] | None,
    learning_rate: float,
    per_epoch: float,
    device: str,
    memory_budget: float | None,
    output: str | int | None,
    threads: int | None,
) -> tuple[Tables, Failures]:
    """What measurements of gradients give at a share of the checkpoints, in this process, and what fails."""
    if device == devices.AUTO:
        device = devices.automatic()
    devices.check(device)
    if threads is not None:
        workers.prepare_process(threads)
    failures, weights = Failures(), {}
    for step, saved in share.items():
        try:
            weights[step] = weights_of(saved, model, step)
        except Exception as error:
            failures.add(CHECKPOINT, step, error)
    found = chosen.of_gradients(
        weights,
        failures,
        model=copy.deepcopy(model),  # whose weights are overwritten
        samples=samples,
        per_epoch=per_epoch,
        device=device,
        memory_budget=memory_budget,
        loss=loss,
        learning_rate=learning_rate,
        output=output,
    )
    if failures.first is not None:
        failures.first = workers.portable(failures.first)
    return found, failures


def _parameters(model: nn.Module, checkpoints: Mapping[int, Saved], step: int) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint by layer, which are loaded into `model`."""
    model.load_state_dict(weights_of(checkpoints[step], model, step))
    return flat_parameters(model)
