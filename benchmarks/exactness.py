"""How exact fishertail is on a network: against a float64 loop over single samples."""

import numpy as np
import torch
from scipy.linalg import eigh

import fishertail
from benchmarks.problems import Problem, mean_loss

CHECKED = 20  # samples whose norms are compared
NEGLIGIBLE = 1e-12  # of the network's norm: a layer's norm below it is rounding
CHUNK = 1 << 18  # columns that are multiplied at once


def by_autograd(problem: Problem, exact: int, dtype: torch.dtype) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """Norms and lambda_1 from autograd, sample by sample; in float64 the truth.

    Args:
        exact: of so many samples, the first, comes lambda_1, from a dense Gram matrix.

    Returns:
        (CHECKED,) which samples; their norms (CHECKED,) by layer; lambda_1. Gradients of the Gram matrix are rounded
        to float32 once, which halves the memory and changes lambda_1 by 1e-7 of it at most.
    """
    model = problem.copied_model().to(dtype)
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {name: name.rpartition(".")[0] for name in names}
    index = checked_samples(problem)
    norms = {layer: np.zeros(len(index)) for layer in layers.values()}
    rows = torch.empty(exact, sum(p.numel() for p in names.values()), device=problem.images.device)
    for sample in sorted({*index.tolist(), *range(exact)}):
        x, y = problem.images[sample : sample + 1], problem.labels[sample : sample + 1]
        outputs = model(x.to(dtype) if x.is_floating_point() else x)
        gradients = torch.autograd.grad(mean_loss(outputs, y), list(names.values()))
        for position in np.flatnonzero(index == sample):
            for name, gradient in zip(names, gradients, strict=True):
                norms[layers[name]][position] += float((gradient.double() ** 2).sum())
        if sample < exact:
            rows[sample] = torch.cat([gradient.flatten() for gradient in gradients]).float()
    gram = torch.zeros(exact, exact, dtype=torch.float64, device=rows.device)
    for part in rows.split(CHUNK, dim=1):
        gram += part.double() @ part.double().T
    top = np.nan if exact == 0 else float(eigh((gram / exact).cpu().numpy(), eigvals_only=True)[-1])
    return index, {layer: np.sqrt(squares) for layer, squares in norms.items()}, top


def checked_samples(problem: Problem) -> np.ndarray:
    return np.linspace(0, len(problem.labels) - 1, CHECKED).astype(int)


def exactness(problem: Problem, exact: int, truth_file: str) -> dict:
    """The largest relative errors of fishertail's norms and of its lambda_1; the true norms are kept in a file.

    Beside them those of plain autograd in float32: where rounding puts a ReLU or a maximum on its other side, both are
    off by as much.
    """
    exact = min(exact, len(problem.labels))
    index, truth, top = by_autograd(problem, exact, torch.float64)
    np.savez(truth_file, index=index, norms=_network(truth))
    found = fishertail.gradient_norms(problem.model, problem.images, problem.labels)
    errors = _errors({layer: found.per_layer[index, i] for i, layer in enumerate(found.layers)}, truth)
    plain = by_autograd(problem, 0, torch.float32)[1]
    worst = max(errors, key=errors.get)
    part = (problem.images[:exact], problem.labels[:exact])
    pairs = fishertail.fisher_eigenpairs(problem.model, *part, layers=["network"])["network"]
    return {
        "error": _largest(found.network[index], _network(truth)),
        "layer_error": errors[worst],
        "worst_layer": worst,
        "autograd_error": _largest(_network(plain), _network(truth)),
        "autograd_layer_error": max(_errors(plain, truth).values()),
        "eigenvalue_error": abs(float(pairs.eigenvalues[0]) / top - 1),
        "converged": bool(pairs.converged.all()),
        "exact_samples": exact,
    }


def _network(norms: dict[str, np.ndarray]) -> np.ndarray:
    return np.sqrt(sum(layer**2 for layer in norms.values()))


def _errors(norms: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest relative error in each layer."""
    errors = {}
    for layer, true in truth.items():
        counted = true > NEGLIGIBLE * _network(truth)
        errors[layer] = _largest(norms[layer][counted], true[counted])
    return errors


def _largest(norms: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(norms / true - 1).max(initial=0.0))
