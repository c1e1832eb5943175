"""The analysis of one's own training run in a call, on this machine or on a cluster, without Snakemake."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import nn

from fishertail import analysis, devices, gradient_table, mad, parallel
from fishertail.checkpoints import Weights


@dataclass(frozen=True)
class RunAnalysis:
    """Every sample's gradient through a run, as tables."""

    gradients: pd.DataFrame  # epoch, sample, loss, correct, and the norm in each layer and the network
    outliers: pd.DataFrame  # epoch, layer, median, mad, outliers_distance, outliers_norm, samples
    spectrum: pd.DataFrame  # epoch, layer, rank, eigenvalue, residual, converged, certified, products, trace
    projections: pd.DataFrame  # epoch, sample, a_x of rank 1 in each layer and the network
    eigenvectors: dict[str, torch.Tensor]  # epoch0003/fc4: (k, P) float32


def analyse_run(
    model: nn.Module,
    checkpoints: Mapping[int, Weights | str | Path],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    layers: Sequence[str] | None = None,
    k: int = 1,
    rtol: float = 1e-4,
    threshold: float = 10,
    device: str = "auto",
    memory_budget: float | None = None,
    threads: int | None = None,
    cluster: Literal["slurm", "local"] | None = None,
    jobs: int = 1,
    folder: str | Path = "fishertail-jobs",
    **parameters,
) -> RunAnalysis:
    """Norms, outliers, eigenpairs and a_x of every training sample at every checkpoint of a run.

    Args:
        model: the network, whose own weights do not matter.
        checkpoints: by epoch, a state dict or a file that `torch.save` wrote of one.
        images, labels: the training samples, as the model and cross entropy take them.
        layers, k, rtol, memory_budget: as of `fisher_eigenpairs`.
        threshold: of outliers, in units of MAD.
        device: a device that torch knows; auto takes CUDA or another accelerator with float64 where there is one.
        threads: of torch in each job; what the scheduler gave, or what torch chooses, by default.
        cluster: None computes in this process; "local" in processes of this machine, "slurm" in jobs, by submitit.
        jobs: how many share the checkpoints.
        folder: where submitit keeps scripts, logs and results; on Slurm all nodes must see it.
        parameters: of submitit's executor, such as slurm_partition, slurm_account, timeout_min, gpus_per_node,
            cpus_per_task, mem_gb.

    Raises:
        WorkerError: a job died; the message ends with the last lines of its log. The others are cancelled.
        DeviceError: torch does not know the device, or it has no float64.
        NodeError: the machine, or that of a job, does not have the device.
        FishertailError, ValueError: as of `fisher_eigenpairs`.
    """
    if not checkpoints:
        raise ValueError("checkpoints: at least one epoch expected, found none")
    if device != devices.AUTO:
        devices.known(device)  # before any job starts: a job's machine may have devices that this one lacks
    options = {"layers": layers, "k": k, "rtol": rtol, "memory_budget": memory_budget}
    work = partial(_analyse, model, _Samples(images, labels), options=options, device=device, threads=threads)
    shares = [dict(list(checkpoints.items())[first::jobs]) for first in range(min(jobs, len(checkpoints)))]
    if cluster is None:
        if parameters:
            raise ValueError(f"{', '.join(parameters)}: only with cluster='slurm' or 'local'")
        parts = [work(share) for share in shares]
    else:
        parts = parallel.submit(work, shares, cluster=cluster, folder=folder, parameters=parameters)
    gradients = gradient_table.merged(gradients for gradients, _ in parts)
    spectra = analysis.merged([spectra for _, spectra in parts])
    return RunAnalysis(
        gradients=gradients,
        outliers=mad.outlier_table(gradients, threshold),
        spectrum=spectra.spectrum,
        projections=spectra.projections,
        eigenvectors=spectra.eigenvectors,
    )


@dataclass(frozen=True)
class _Samples:
    """Training samples as the analysis takes those of a data set."""

    images: torch.Tensor
    labels: torch.Tensor

    def training_data(self, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images.to(device), self.labels.to(device)


def _analyse(model, samples, share, *, options, device: str, threads: int | None):
    if device == devices.AUTO:
        device = devices.automatic()
    devices.check(device)
    if threads is not None:
        parallel.prepare_process(threads)
    weights = {
        epoch: torch.load(saved, map_location="cpu", weights_only=True) if isinstance(saved, str | Path) else saved
        for epoch, saved in share.items()
    }
    model = copy.deepcopy(model)  # whose weights are overwritten
    gradients = gradient_table.gradient_table(model, weights, samples, device)
    return gradients, analysis.spectra(model, weights, samples, gradients, device=device, **options)
