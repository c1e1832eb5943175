"""Analyse your own training run with one call, on this machine or on a cluster, without Snakemake."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import pandas as pd
import torch
from torch import nn

from fishertail import devices
from fishertail.execution import measuring, workers
from fishertail.execution.measuring import Tables
from fishertail.gradients.network import NETWORK
from fishertail.measurements.measurement import Measurement, options_given
from fishertail.measurements.measurement import measurements as all_measurements
from fishertail.training.checkpoints import Weights

DEFAULT = ("norms", "spectrum", "outliers")


@dataclass(frozen=True)
class RunAnalysis:
    """The tables of a run: norms, spectra and outliers of every sample's gradient at its checkpoints.

    Attributes:
        tables: every table by name, those of other measurements included, with the columns `step` and `epoch`;
            eigenvectors are tensors by name.
    """

    tables: dict[str, Any]

    @property
    def norms(self) -> pd.DataFrame:
        """step, epoch, sample, label, loss, correct, and the norm in each layer and the network."""
        return self._frame("norms")

    @property
    def gradients(self) -> NoReturn:
        """The name of `norms` in version 0.1."""
        raise AttributeError(
            "RunAnalysis.gradients is RunAnalysis.norms since version 0.2, with the columns step and epoch"
        )

    @property
    def outliers(self) -> pd.DataFrame:
        """step, epoch, layer, median, mad, outliers_distance, outliers_norm, samples."""
        return self._frame("outliers")

    @property
    def spectrum(self) -> pd.DataFrame:
        """step, epoch, layer, rank, eigenvalue, residual, converged, certified, products, trace."""
        return self._frame("spectrum")

    @property
    def projections(self) -> pd.DataFrame:
        """step, epoch, sample, and a_x of rank 1 in each layer and the network."""
        return self._frame("projections")

    @property
    def eigenvectors(self) -> dict[str, torch.Tensor]:
        """step00000059/fc4, ...: (k, P) float32."""
        found: dict[str, torch.Tensor] = self.tables["eigenvectors"]
        return found

    def _frame(self, name: str) -> pd.DataFrame:
        found: pd.DataFrame = self.tables[name]
        return found


def analyse_run(
    model: nn.Module,
    checkpoints: Mapping[int, Weights | str | Path],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    steps_per_epoch: float | None = None,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
    threshold: float = 10,
    loss: Callable[..., torch.Tensor] | None = None,
    learning_rate: float | None = None,
    measurements: Sequence[str] = DEFAULT,
    device: str = "auto",
    memory_budget: float | None = None,
    threads: int | None = None,
    cluster: Literal["slurm", "local"] | None = None,
    jobs: int = 1,
    folder: str | Path = "fishertail-jobs",
    **parameters: Any,
) -> RunAnalysis:
    """Norms, outliers, eigenpairs and a_x of every training sample at every checkpoint of a run.

    Args:
        model: the network; its own weights are not used.
        checkpoints: by SGD step, a state dict or a file that `torch.save` wrote of one. In version 0.1 the keys were
            epochs: multiply these by the steps per epoch, ceil(N / batch size).
        images, labels: the training samples (N, ...), as the model and cross entropy take them.
        steps_per_epoch: SGD steps per epoch, for the column `epoch` = step / steps_per_epoch; NaN without it.
        layers, k, rtol, memory_budget: see `fisher_eigenpairs`.
        loss: see `gradient_norms`.
        learning_rate: of the run, for measurements that compare it with the curvature; NaN without it.
        threshold: distance of an outlier's norm from the median, in units of MAD.
        measurements: names of measurements (docs/reference.md); those that they need are added.
        device: a device that torch knows; auto takes CUDA or another accelerator with float64 where there is one.
        threads: torch's threads in each job; by default those that the scheduler allots, or torch's own choice.
        cluster: None computes in this process; "local" in processes of this machine and "slurm" in jobs, by submitit.
        jobs: how many jobs share the checkpoints.
        folder: where submitit keeps scripts, logs and results; on Slurm all nodes must see it.
        parameters: those of submitit's executor, such as slurm_partition, slurm_account, timeout_min, gpus_per_node,
            cpus_per_task, mem_gb.

    Raises:
        WorkerError: a job died; the message ends with the last lines of its log. The others are cancelled.
        DeviceError: torch does not know the device, or it has no float64.
        NodeError: the machine, or that of a job, does not have the device.
        FishertailError, ValueError: see `fisher_eigenpairs`; ValueError also for an unknown measurement.
    """
    if not checkpoints:
        raise ValueError("checkpoints: at least one SGD step expected, found none")
    if jobs < 1:
        raise ValueError(f"jobs: 1 or more expected, found {jobs}")
    _check_layers(model, layers)
    if device != devices.AUTO:
        devices.known(device)  # before any job starts: a job's machine may have devices that this one lacks
    chosen = _with_needs(measurements)
    for each in chosen:
        if each.check is not None:
            each.check(model, loss)
    settings: dict[str, dict[str, Any]] = {
        "spectrum": {"layers": "all" if layers is None else list(layers), "eigenpairs": k, "tolerance": rtol},
        "outliers": {"threshold": threshold},
    }
    options = {name: each.options(**settings.get(name, {})) for name, each in all_measurements().items()}
    given = {each.name: options_given(each, options) for each in chosen}
    per_epoch = float("nan") if steps_per_epoch is None else float(steps_per_epoch)
    work = partial(
        _analyse,
        model,
        images,
        labels,
        chosen,
        given,
        loss=loss,
        learning_rate=float("nan") if learning_rate is None else float(learning_rate),
        per_epoch=per_epoch,
        device=device,
        memory_budget=memory_budget,
        threads=threads,
    )
    shares = [dict(list(checkpoints.items())[first::jobs]) for first in range(min(jobs, len(checkpoints)))]
    if cluster is None:
        if parameters:
            raise ValueError(f"{', '.join(parameters)}: only with cluster='slurm' or 'local'")
        parts = [work(share) for share in shares]
    else:
        parts = workers.submit(work, shares, cluster=cluster, folder=folder, parameters=parameters)
    tables: Tables = {}
    for each in chosen:
        tables |= measuring.merged(each, parts)
    return RunAnalysis(tables)


def _check_layers(model: nn.Module, layers: Sequence[str] | None) -> None:
    """Before a pass is paid for: the workflow leaves layers out that a model lacks, since a grid has several."""
    owners = [
        name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    ]
    unknown = [name for name in layers or () if name not in (*owners, NETWORK)]
    if unknown:
        known = ", ".join([*owners, NETWORK])
        raise ValueError(f"layers: among {known} expected, found {', '.join(map(repr, unknown))}")


def _with_needs(names: Sequence[str]) -> list[Measurement]:
    """The measurements of these names and those that they need, each after these."""
    known, wanted = all_measurements(), list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        expected = ", ".join(known)
        raise ValueError(f"measurements: among {expected} expected, found {', '.join(map(repr, unknown))}")
    for name in wanted:
        wanted += [need for need in known[name].needs if need not in wanted]
    return [each for name, each in known.items() if name in wanted]


def _analyse(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    chosen: Sequence[Measurement],
    options: Mapping[str, Mapping[str, Any]],
    share: Mapping[int, Weights | str | Path],
    *,
    loss: Callable[..., torch.Tensor] | None,
    learning_rate: float,
    per_epoch: float,
    device: str,
    memory_budget: float | None,
    threads: int | None,
) -> Tables:
    """The tables of a share of the checkpoints, in this process."""
    if device == devices.AUTO:
        device = devices.automatic()
    devices.check(device)
    if threads is not None:
        workers.prepare_process(threads)
    weights = {
        step: torch.load(saved, map_location="cpu", weights_only=True) if isinstance(saved, str | Path) else saved
        for step, saved in share.items()
    }
    model = copy.deepcopy(model)  # whose weights are overwritten
    samples = images.to(device), labels.to(device)
    found: Tables = {}
    for each in chosen:
        needed = {table.name: found[table.name] for need in each.needs for table in _tables(need)}
        if each.scope == "gradients":
            found |= measuring.by_gradients(
                each,
                options[each.name],
                weights,
                model=model,
                samples=samples,
                tables=needed,
                tensors={name: found[name] for name in each.tensors},
                per_epoch=per_epoch,
                device=device,
                memory_budget=memory_budget,
                loss=loss,
                learning_rate=learning_rate,
            )
        else:
            found |= measuring.by_tables(each, options[each.name], needed)
    return found


def _tables(name: str) -> list[Any]:
    return [table for table in all_measurements()[name].tables if table.suffix != "safetensors"]
