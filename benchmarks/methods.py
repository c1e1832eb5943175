"""What is compared: the norms of all per-sample gradients, and eigenpairs of the empirical Fisher matrix.

Each method takes a Problem. Norms are (N,), of the network; eigenvalues a number, the largest of the network.
"""

import warnings

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import fishertail
from benchmarks.problems import Problem, mean_loss


def fishertail_norms(problem: Problem) -> np.ndarray:
    return fishertail.gradient_norms(problem.model, problem.images, problem.labels).network


def backpack_norms(problem: Problem) -> np.ndarray:
    from backpack.extensions import BatchL2Grad

    squares = [sum(p.batch_l2 for p in parameters) for parameters in _backpack_batches(problem, BatchL2Grad)]
    return torch.cat(squares).sqrt().cpu().numpy()


def opacus_norms(problem: Problem) -> np.ndarray:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    model = _for_opacus(problem, GradSampleModuleFastGradientClipping, use_ghost_clipping=True)
    norms = []
    for x, y in problem.batches():
        model.zero_grad()
        (len(y) * mean_loss(model(x), y)).backward()
        norms.append(model.get_norm_sample().detach())
    return torch.cat(norms).cpu().numpy()


def opacus_gradients(problem: Problem) -> np.ndarray:
    """Norms of the gradients that Opacus holds of a batch."""
    from opacus.grad_sample import GradSampleModule

    model = _for_opacus(problem, GradSampleModule)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = []
    for x, y in problem.batches(problem.gradients_batch_size):
        model.zero_grad()
        (len(y) * mean_loss(model(x), y)).backward()
        norms.append(sum(parameter.grad_sample.flatten(1).square().sum(1) for parameter in trained).sqrt())
        for parameter in trained:
            parameter.grad_sample = None
    return torch.cat(norms).detach().cpu().numpy()


def _for_opacus(problem: Problem, kind: type, **options) -> nn.Module:
    """A model that Opacus watches, in training mode alone and not in place; dropout is switched off by hand."""
    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", message="Full backward hook")
    model = problem.copied_model().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return kind(model, loss_reduction="sum", **options)


def vmap_norms(problem: Problem) -> np.ndarray:
    norms = [sum(part.flatten(1).square().sum(1) for part in parts).sqrt() for parts in _vmap_gradients(problem)]
    return torch.cat(norms).cpu().numpy()


def fishertail_everything(problem: Problem) -> float:
    """Norms, eigenpair and a_x, of every layer and of the network."""
    return _fishertail_pairs(problem)["network"].eigenvalues[0]


def fishertail_network(problem: Problem) -> float:
    """The eigenpair of the network alone."""
    return _fishertail_pairs(problem, layers=["network"])["network"].eigenvalues[0]


def fishertail_ten(problem: Problem) -> float:
    """Ten eigenpairs of the network, a_x of the first."""
    return _fishertail_pairs(problem, layers=["network"], k=10, projected=1)["network"].eigenvalues[0]


def fishertail_layer(problem: Problem) -> float:
    """The eigenpair of the last hidden layer alone; its eigenvalue is not to be compared with the others'."""
    layer = [name for name, _ in problem.model.named_modules() if name.startswith("fc")][-2]
    _fishertail_pairs(problem, layers=[layer])
    return float("nan")


def _fishertail_pairs(problem: Problem, **options) -> dict[str, fishertail.Eigenpairs]:
    pairs = fishertail.fisher_eigenpairs(problem.model, problem.images, problem.labels, **options)
    wrong = [name for name, found in pairs.items() if not found.converged.all()]
    if wrong:
        raise RuntimeError(f"not converged: {', '.join(wrong)}")
    return pairs


def curvlinops_eigsh(problem: Problem, dtype: torch.dtype = torch.float32, tol: float = 1e-4) -> float:
    from curvlinops import EFLinearOperator

    model = problem.copied_model().to(dtype)
    data = [(x.to(dtype) if x.is_floating_point() else x, y) for x, y in problem.batches()]
    parameters = list(model.parameters())
    if data[0][1].ndim > 1:  # nn.CrossEntropyLoss has the classes second
        model = nn.Sequential(model, _ClassesSecond())
    options = {"progressbar": False, "check_deterministic": False}
    operator = EFLinearOperator(model, nn.CrossEntropyLoss(), parameters, data, **options).to_scipy()
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(operator.dtype)
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH):  # neither other kernels nor that path know forward-mode derivatives
        return float(eigsh(operator, k=1, tol=tol, v0=start, return_eigenvectors=False)[0])


class _ClassesSecond(nn.Module):
    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.movedim(-1, 1)


def truth(problem: Problem) -> float:
    """lambda_1 in float64, to 1e-10, by a peer."""
    return curvlinops_eigsh(problem, torch.float64, 1e-10)


def power_iteration(problem: Problem) -> float:
    """By autograd: F v from a forward-mode and a reverse-mode derivative a batch, until lambda changes by 1e-4."""
    parameters = {name: parameter.detach() for name, parameter in problem.model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    vector = {n: torch.randn(p.shape, generator=generator).to(p) for n, p in parameters.items()}
    value = 0.0
    for _ in range(100):
        length = torch.sqrt(sum((part.double() ** 2).sum() for part in vector.values()))
        vector = {name: part / length.to(part) for name, part in vector.items()}
        images = {name: torch.zeros_like(part) for name, part in vector.items()}
        for x, y in problem.batches():

            def losses(weights, x=x, y=y):
                outputs = torch.func.functional_call(problem.model, weights, (x,))
                return nn.functional.cross_entropy(outputs, y, reduction="none")

            _, pulled_back = torch.func.vjp(losses, parameters)
            products = torch.func.jvp(losses, (parameters,), (vector,))[1]
            for name, part in pulled_back(products / len(problem.labels))[0].items():
                images[name] += part
        before, value = value, float(sum((vector[n].double() * images[n].double()).sum() for n in vector))
        vector = images
        if abs(value - before) <= 1e-4 * value:
            break
    return value


def backpack_gram(problem: Problem) -> float:
    """The Gram matrix of gradients that BackPACK holds all at once."""
    from backpack.extensions import BatchGrad

    rows = [
        torch.cat([parameter.grad_batch.flatten(1) for parameter in parameters], dim=1)
        for parameters in _backpack_batches(problem, BatchGrad)
    ]
    return _gram_eigenvalue(torch.cat(rows))


def vmap_gram(problem: Problem) -> float:
    """The Gram matrix of gradients that torch.func.vmap(grad) gives."""
    rows = [torch.cat([part.flatten(1) for part in parts], dim=1) for parts in _vmap_gradients(problem)]
    return _gram_eigenvalue(torch.cat(rows))


NORMS = {
    "fishertail": fishertail_norms,
    "BackPACK BatchL2Grad": backpack_norms,
    "Opacus ghost norms": opacus_norms,
    "Opacus GradSampleModule": opacus_gradients,
    "torch.func vmap(grad)": vmap_norms,
}
EIGENPAIRS = {
    "fishertail: everything": fishertail_everything,
    "fishertail: network": fishertail_network,
    "fishertail: network, k = 10": fishertail_ten,
    "fishertail: last hidden layer": fishertail_layer,
    "curvlinops + eigsh": curvlinops_eigsh,
    "power iteration by autograd": power_iteration,
    "BackPACK BatchGrad + Gram": backpack_gram,
    "torch.func vmap(grad) + Gram": vmap_gram,
}
MOST_SAMPLES = {  # all gradients at once: 5 GB for 1,000 samples of fc
    "BackPACK BatchGrad + Gram": 1000,
    "torch.func vmap(grad) + Gram": 1000,
    "Opacus GradSampleModule": 10_000,
    "torch.func vmap(grad)": 10_000,
}


def _backpack_batches(problem: Problem, extension: type):
    """The parameters after each batch's backward pass, with what the extension has put there."""
    from backpack import backpack, extend

    loss = extend(nn.CrossEntropyLoss(reduction="sum"))
    try:
        model = extend(problem.copied_model(), use_converter=_branches(problem.model))
    except Exception:  # not every network can be traced; some do without
        model = extend(problem.copied_model())
    for x, y in problem.batches():
        model.zero_grad()
        with backpack(extension()):
            outputs = model(x)
            positions = outputs.shape[1:-1].numel()
            (loss(outputs.flatten(0, -2), y.flatten()) / positions).backward()
        yield list(model.parameters())


def _branches(model: nn.Module) -> bool:
    """Whether tensors go other ways than through a chain of modules, which BackPACK must trace first."""
    return any(not isinstance(module, nn.Sequential) and [*module.children()] for module in model.modules())


def _vmap_gradients(problem: Problem):
    parameters = {name: parameter.detach() for name, parameter in problem.model.named_parameters()}

    def loss_of_one(weights, x, y):
        return mean_loss(torch.func.functional_call(problem.model, weights, (x[None],)), y[None])

    of_each = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, 0, 0))
    for x, y in problem.batches(problem.gradients_batch_size):
        yield list(of_each(parameters, x, y).values())


def _gram_eigenvalue(gradients: torch.Tensor) -> float:
    gram = (gradients @ gradients.T).double().cpu().numpy() / len(gradients)
    return float(eigh(gram, eigvals_only=True, subset_by_index=[len(gram) - 1] * 2)[0])
