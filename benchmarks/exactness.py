"""How exact fishertail is on a network: against a float64 loop over single samples."""

import numpy as np
import torch
from scipy.linalg import eigh

import fishertail
from benchmarks.problems import Problem, mean_loss

CHECKED = 20  # samples whose norms are compared
NEGLIGIBLE = 1e-12  # of the network's norm: a layer's norm below it is rounding
CHUNK = 1 << 18  # columns that are multiplied at once


def true_norms_and_gram(problem: Problem, exact: int) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """Truths in float64 from autograd, sample by sample.

    Returns:
        (CHECKED,) which samples; their norms (CHECKED,) by layer; lambda_1 of the first `exact` samples. Their
        gradients are rounded to float32 once, which halves the memory and changes lambda_1 by 1e-8 of it at most.
    """
    model = problem.copied_model().double()
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {name: name.rpartition(".")[0] for name in names}
    index = checked_samples(problem)
    norms = {layer: np.zeros(len(index)) for layer in layers.values()}
    rows = torch.empty(exact, sum(p.numel() for p in names.values()), device=problem.images.device)
    for sample in sorted({*index.tolist(), *range(exact)}):
        x, y = problem.images[sample : sample + 1], problem.labels[sample : sample + 1]
        outputs = model(x.double() if x.is_floating_point() else x)
        gradients = torch.autograd.grad(mean_loss(outputs, y), list(names.values()))
        for position in np.flatnonzero(index == sample):
            for name, gradient in zip(names, gradients, strict=True):
                norms[layers[name]][position] += float((gradient**2).sum())
        if sample < exact:
            rows[sample] = torch.cat([gradient.flatten() for gradient in gradients]).float()
    gram = torch.zeros(exact, exact, dtype=torch.float64, device=rows.device)
    for part in rows.split(CHUNK, dim=1):
        gram += part.double() @ part.double().T
    top = float(eigh((gram / exact).cpu().numpy(), eigvals_only=True)[-1])
    return index, {layer: np.sqrt(squares) for layer, squares in norms.items()}, top


def checked_samples(problem: Problem) -> np.ndarray:
    return np.linspace(0, len(problem.labels) - 1, CHECKED).astype(int)


def exactness(problem: Problem, exact: int, truth_file: str) -> dict:
    """The largest relative errors of fishertail's norms and of its lambda_1; the true norms are kept in a file."""
    exact = min(exact, len(problem.labels))
    index, layers, top = true_norms_and_gram(problem, exact)
    network = np.sqrt(sum(norms**2 for norms in layers.values()))
    np.savez(truth_file, index=index, norms=network)
    found = fishertail.gradient_norms(problem.model, problem.images, problem.labels)
    errors = {}
    for column, layer in enumerate(found.layers):
        counted = layers[layer] > NEGLIGIBLE * network
        relative = np.abs(found.per_layer[index, column] / np.where(counted, layers[layer], 1.0) - 1)
        errors[layer] = float(relative[counted].max(initial=0.0))
    worst = max(errors, key=errors.get)
    part = (problem.images[:exact], problem.labels[:exact])
    pairs = fishertail.fisher_eigenpairs(problem.model, *part, layers=["network"])["network"]
    return {
        "error": float(np.abs(found.network[index] / network - 1).max()),
        "layer_error": errors[worst],
        "worst_layer": worst,
        "eigenvalue_error": abs(float(pairs.eigenvalues[0]) / top - 1),
        "converged": bool(pairs.converged.all()),
        "exact_samples": exact,
    }
