"""Independent truths: single samples, one after the other, in float64, without the code under test."""

import copy

import numpy as np
import torch
from torch import nn


def dense_gradients(model, images, labels, loss=None) -> dict[str, np.ndarray]:
    """(N, P) float64 by layer: the gradient of each sample's loss by autograd, on a batch of one.

    Cross entropy is computed from logits in float64, where p - 1 keeps 16 digits below 1: good for norms from 1e-12 on.
    """
    model = copy.deepcopy(model).double()
    loss = loss or nn.functional.cross_entropy
    owners = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            owners.setdefault(name.rpartition(".")[0], []).append(parameter)
    rows = {layer: [] for layer in owners}
    for x, y in zip(images, labels, strict=True):
        x = x.double() if x.is_floating_point() else x
        model.zero_grad()
        value = loss(model(x[None]), y[None])
        if value.requires_grad:  # or no parameter has been used
            value.backward()
        for layer, parameters in owners.items():
            flat = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]
            rows[layer].append(torch.cat([g.flatten() for g in flat]).numpy().copy())
    return {layer: np.stack(parts) for layer, parts in rows.items()}


def dense_eigenvalues(gradients: np.ndarray) -> np.ndarray:
    """All eigenvalues of F, largest first, by the singular values of G."""
    return np.linalg.svd(gradients, compute_uv=False) ** 2 / len(gradients)


def norms_without_cancellation(model, images, labels, index) -> np.ndarray:
    """(n, L) float64 norms of the samples at `index`; p_y - 1 is taken as minus the other probabilities."""
    model = copy.deepcopy(model).double()
    layers = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    norms = []
    for i in index:
        logits = model(images[i : i + 1].double())
        probabilities = torch.softmax(logits.detach(), 1)
        probabilities[0, labels[i]] = 0
        probabilities[0, labels[i]] = -probabilities.sum()
        model.zero_grad()
        logits.backward(probabilities)
        norms.append([sum(float(p.grad.square().sum()) for p in m.parameters(recurse=False)) ** 0.5 for m in layers])
    return np.array(norms)
