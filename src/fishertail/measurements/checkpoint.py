"""A checkpoint as measurements get it: opened for its gradients, with the tables of other measurements."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fishertail.gradients.matrix import GradientMatrix, GradientNorms
from fishertail.gradients.model_checks import NETWORK, layers_of
from fishertail.gradients.private_copy import unwrapped
from fishertail.measurements.measurement import OpenCheckpoint
from fishertail.training.checkpoints import Weights


@contextmanager
def opened(
    model: nn.Module,
    step: int,
    weights: Weights,
    samples: tuple[Any, Any],
    tables: Mapping[str, pd.DataFrame],
    *,
    device: str,
    memory_budget: float,
    loss: Callable[..., torch.Tensor] | None = None,
    learning_rate: float = float("nan"),
    tensors: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    output: str | int | None = None,
) -> Iterator[OpenCheckpoint]:
    """The checkpoint of `model` with `weights`, which are loaded into it.

    Args:
        samples: images and labels, see `gradient_norms`.
        tables: of the needed measurements, at this step.
        loss: of one sample; cross entropy by default.
        learning_rate, tensors: see `OpenCheckpoint`.
        output: see `gradient_norms`.
    """
    model.load_state_dict(weights)
    model.to(device).eval()
    with GradientMatrix(model, *samples, loss=loss, device=device, output=output) as matrix:
        yield OpenCheckpoint(
            step,
            tables,
            model,
            loss,
            matrix,
            device,
            memory_budget,
            learning_rate,
            tensors or {},
        )


def norms_of(at: OpenCheckpoint) -> GradientNorms:
    """The norms of all samples in all layers, from the table `norms`."""
    table, layers = at.tables["norms"].sort_values("sample"), tuple(at.matrix.layers)
    return GradientNorms(
        layers=layers,
        per_layer=table[list(layers)].to_numpy(dtype=np.float64),
        loss=table["loss"].to_numpy(dtype=np.float64),
        correct=None if table["correct"].isna().any() else table["correct"].to_numpy(dtype=bool),
    )


def classes_of(targets: Any) -> torch.Tensor | None:
    """The class (n,) of each sample; None where the targets are something else."""
    one_each = isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return targets if one_each else None


def flat_parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    """(P,) copies of the trained parameters of each layer and of the network, in the order of the eigenvectors."""
    model = unwrapped(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = layers_of(model, trained, {}, None)
    parts = [torch.cat([trained[name].detach().flatten() for name in own]) for own in layers.values()]
    whole = torch.cat(parts).cpu()
    return dict(zip(layers, whole.split([len(part) for part in parts]), strict=True)) | {NETWORK: whole}
