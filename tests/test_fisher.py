"""Eigenpairs of the Fisher matrix against dense float64 spectra, a peer library and invariants."""

import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fishertail
from fishertail.data import loading
from fishertail.fisher import eigenpairs as fisher
from fishertail.fisher import krylov, solver, start
from fishertail.fisher.leading_pairs import leading_pairs
from fishertail.gradients.matrix import GradientMatrix
from fishertail.grid import config
from fishertail.training import sgd
from fishertail.training.networks import build
from tests.trained import digits_network
from tests.truth import dense_eigenvalues, dense_gradients

RTOL = 1e-4


def solved(matrix, scopes, norms, **options):
    return fisher.solve(matrix, scopes, norms, **options)


def scopes(gradients):
    return gradients | {"network": np.concatenate(list(gradients.values()), axis=1)}


def assert_right(pairs, gradients, k):
    """Eigenvalues, eigenvectors, a_x, residuals and trace are those of the dense G (N, P)."""
    values = dense_eigenvalues(gradients)[:k]
    np.testing.assert_allclose(pairs.eigenvalues, values, rtol=RTOL)
    assert pairs.converged.all()
    vectors = pairs.eigenvectors.astype(np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-4)
    scale = np.sqrt(values[0])
    np.testing.assert_allclose(pairs.projections, gradients @ vectors.T, atol=5e-5 * np.abs(pairs.projections).max())
    np.testing.assert_allclose((pairs.projections**2).mean(0), pairs.eigenvalues, rtol=1e-9)
    assert (pairs.projections.mean(0) >= -1e-12 * scale).all()
    products = gradients.T @ (gradients @ vectors.T) / len(gradients)
    residuals = np.linalg.norm(products - vectors.T * pairs.eigenvalues, axis=0)
    assert (residuals <= pairs.residuals * 1.01 + 1e-5 * values[0]).all()
    assert pairs.trace == pytest.approx((gradients**2).sum(1).mean(), rel=3e-5)


@pytest.mark.parametrize(
    ("name", "epochs", "k"),
    [
        ("fc", 1, 1),
        ("fc", 1, 5),
        ("fc", 25, 1),
        ("fc", 25, 5),
        ("conv", 1, 1),
        *(pytest.param("conv", epochs, k, marks=pytest.mark.slow) for epochs, k in ((1, 5), (25, 1), (25, 5))),
    ],
)
def test_eigenpairs_of_trained_networks(name, epochs, k, monkeypatch):
    monkeypatch.setattr(start, "GRAM_SAMPLES", (60, 60))
    model, images, labels = digits_network(name, epochs)
    part = slice(0, 350)
    pairs = fishertail.fisher_eigenpairs(model, images[part], labels[part], k=k, rtol=RTOL)
    for scope, gradients in scopes(dense_gradients(model, images[part], labels[part])).items():
        assert_right(pairs[scope], gradients, k)


def peers_eigenvalue(model, images, labels, layer):
    """lambda_1 by curvlinops and Lanczos, in float64 to 1e-10."""
    from curvlinops import EFLinearOperator
    from scipy.sparse.linalg import eigsh

    double = copy.deepcopy(model).double()
    data = list(zip(images.double().split(700), labels.split(700), strict=True))
    parameters = list((double if layer == "network" else double.get_submodule(layer)).parameters())
    options = {"progressbar": False, "check_deterministic": False}
    operator = EFLinearOperator(double, nn.CrossEntropyLoss(), parameters, data, **options)
    return eigsh(operator.to_scipy(), k=1, tol=1e-10, return_eigenvectors=False)[0]


@pytest.mark.parametrize("layer", ["fc4", "network"])
def test_eigenvalues_agree_with_curvlinops_on_a_trained_network(layer):
    model, images, labels = digits_network("fc", 5)
    found = fishertail.fisher_eigenpairs(model, images, labels, layers=[layer])[layer]
    assert found.eigenvalues[0] == pytest.approx(peers_eigenvalue(model, images, labels, layer), rel=RTOL)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture", "samples"), [("mnist", "fc", 10_000), ("cifar10", "conv", 200)])
def test_eigenvalues_on_the_papers_data(name, architecture, samples, real_data):
    """After one epoch, where the norms are even, and after five."""
    data, options = loading.load(name, real_data), config.default().architecture(architecture).model_dump()
    model = build.build(architecture, options, data.shape, data.classes, 0)
    images, labels = (part[:samples] for part in data.training_data())
    for epoch in range(1, 6):
        rate = {"batch_size": 16, "learning_rate": options["learning_rate"], "seed": 0}
        sgd.train_epoch(model, images, labels, **rate, epoch=epoch)
        if epoch in (1, 5):
            found = fishertail.fisher_eigenpairs(model.eval(), images, labels)
            for layer in ("network", options["figure_layer"]):
                expected = peers_eigenvalue(model, images, labels, layer)
                error = abs(found[layer].eigenvalues[0] / expected - 1)
                print(f"{name}, epoch {epoch}, {layer}: lambda_1 {expected:.6g}, error {error:.1e}")
                assert error <= RTOL
                assert found[layer].converged.all()


def test_the_way_by_a_level_gives_the_same(monkeypatch):
    model, images, labels = digits_network("conv", 1)
    direct = fishertail.fisher_eigenpairs(model, images, labels)
    monkeypatch.setattr(start, "GRAM_SAMPLES", (40, 40))
    iterated, iterate = [], solver.JointSolver._iterated

    def watched(self, scopes, index, *rest):
        iterated.append(len(index))
        return iterate(self, scopes, index, *rest)

    monkeypatch.setattr(solver.JointSolver, "_iterated", watched)
    by_level = fishertail.fisher_eigenpairs(model, images, labels)
    assert 80 < iterated[0] <= len(labels) / 8  # the level, then the active samples
    for scope, pairs in direct.items():
        np.testing.assert_allclose(by_level[scope].eigenvalues, pairs.eigenvalues, rtol=RTOL)
        assert by_level[scope].converged.all()


@pytest.mark.parametrize("projected", [0, 2])
def test_a_x_of_fewer_pairs_than_are_solved(projected):
    model, images, labels = digits_network("fc", 25)
    pairs, some = (fishertail.fisher_eigenpairs(model, images, labels, k=4, projected=p) for p in (4, projected))
    for scope, reference in pairs.items():
        np.testing.assert_allclose(some[scope].eigenvalues, reference.eigenvalues, rtol=RTOL)
        assert some[scope].converged.all()
        assert some[scope].projections.shape == (len(labels), projected)
        expected = reference.projections[:, :projected]
        np.testing.assert_allclose(some[scope].projections, expected, atol=2e-2 * np.abs(reference.projections).max())
    with pytest.raises(ValueError, match="projected: 0 to 1"):
        fishertail.fisher_eigenpairs(model, images, labels, projected=2)


@pytest.mark.parametrize("budget", [pytest.param(2.1e7, marks=pytest.mark.slow), 4e7, 1e12])
@pytest.mark.parametrize("epochs", [1, 25])
def test_the_memory_budget_changes_nothing_beyond_the_tolerance(budget, epochs):
    model, images, labels = digits_network("conv", epochs)
    reference = fishertail.fisher_eigenpairs(model, images, labels)
    pairs = fishertail.fisher_eigenpairs(model, images, labels, memory_budget=budget)
    for scope in reference:
        np.testing.assert_allclose(pairs[scope].eigenvalues, reference[scope].eigenvalues, rtol=RTOL)
        assert pairs[scope].converged.all()


@pytest.mark.slow
def test_a_budget_that_is_too_small_names_the_least_and_that_does():
    model, images, labels = (
        part if isinstance(part, torch.nn.Module) else part[:450] for part in digits_network("conv", 1)
    )
    with pytest.raises(
        ValueError, match=r"memory_budget: at least .* which 'network' takes .* found 9.5 MiB"
    ) as refused:
        fishertail.fisher_eigenpairs(model, images, labels, memory_budget=1e7)
    least = float(re.search(r"\(([^ ]*) bytes\) expected", str(refused.value)).group(1))
    pairs = fishertail.fisher_eigenpairs(model, images, labels, memory_budget=1.01 * least)
    assert all(found.converged.all() for found in pairs.values())
    with pytest.raises(ValueError, match="which one sample takes"):
        fishertail.gradient_norms(model, images, labels, memory_budget=1e4)


def test_norms_that_are_at_hand_are_used_and_change_nothing():
    model, images, labels = digits_network("fc", 5)
    norms = fishertail.gradient_norms(model, images, labels)
    with_norms, without = (fishertail.fisher_eigenpairs(model, images, labels, norms=n) for n in (norms, None))
    for scope in without:
        np.testing.assert_allclose(with_norms[scope].eigenvalues, without[scope].eigenvalues, rtol=1e-5)


def test_norms_of_something_else_are_refused():
    model, images, labels = digits_network("fc", 5)
    norms = fishertail.gradient_norms(model, images, labels)
    fewer = fishertail.gradient_norms(model, images[:50], labels[:50])
    smoothed = fishertail.gradient_norms(model, images, labels, loss=nn.CrossEntropyLoss(label_smoothing=0.5))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[-1].weight.mul_(1.5)
    for wrong, kind, reason in (
        (norms.network, TypeError, "norms: what gradient_norms returned expected, found ndarray"),
        (fewer, ValueError, f"norms: those of {len(labels)} samples expected, found those of 50"),
        (smoothed, ValueError, "norms: those of this model, data and loss expected"),
    ):
        with pytest.raises(kind, match=reason):
            fishertail.fisher_eigenpairs(model, images, labels, norms=wrong)
    with pytest.raises(ValueError, match="norms: those of this model, data and loss expected"):
        fishertail.fisher_eigenpairs(other, images, labels, norms=norms)


@pytest.mark.parametrize("scale", [1e-200, 1.0, np.nan])
def test_norms_are_compared_at_any_size(scale):
    """Where squares underflow, and where no gradient is finite, too."""
    model, images, labels = nn.Linear(4, 1, bias=False).double(), torch.randn(30, 4).double(), torch.zeros(30).double()
    of_scale = lambda outputs, labels: outputs.sum() * scale + 0 * labels.sum()  # noqa: E731
    norms = fishertail.gradient_norms(model, images, labels, loss=of_scale)
    assert np.isfinite(norms.network).all() == np.isfinite(scale)
    fishertail.fisher_eigenpairs(model, images, labels, loss=of_scale, norms=norms)
    twice = lambda outputs, labels: 2 * of_scale(outputs, labels)  # noqa: E731
    if np.isfinite(scale):
        with pytest.raises(ValueError, match="norms: those of this model, data and loss expected"):
            fishertail.fisher_eigenpairs(model, images, labels, loss=twice, norms=norms)


def linear_network(gradients: np.ndarray):
    """A network without bias, data and a loss whose per-sample gradients are the rows of `gradients`."""
    model = nn.Linear(gradients.shape[1], 1, bias=False)
    return (
        model,
        torch.tensor(gradients, dtype=torch.float32),
        torch.zeros(len(gradients)),
        lambda z, y: z.sum() + 0 * y.sum(),
    )


def eigenpairs_of(gradients: np.ndarray, **options):
    model, images, labels, loss = linear_network(gradients)
    return fishertail.fisher_eigenpairs(model, images, labels, loss=loss, layers=["network"], **options)["network"]


def with_spectrum(values, samples, seed=0):
    """A G (samples, 40) whose F has these eigenvalues."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(samples, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(40, len(values))))[0]
    return np.sqrt(samples) * left * np.sqrt(values) @ right.T


@pytest.mark.parametrize("ratio", [0.96, 0.99, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_close_eigenvalues_are_told_apart(ratio, seed):
    values = np.array([1, ratio, 0.9, 0.3, *np.geomspace(0.2, 1e-4, 20)])
    pairs = eigenpairs_of(with_spectrum(values, 2000, seed))
    assert pairs.eigenvalues[0] == pytest.approx(1, rel=RTOL)


@pytest.mark.parametrize(("samples", "tokens"), [(3000, 400), (3000, 50), (3000, 10), (10000, 2000)])
@pytest.mark.parametrize("k", [1, 5])
def test_no_block_of_an_embedding_is_missed(samples, tokens, k):
    """Every token has a block of F of its own, whose eigenvectors are eigenvectors of F."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(tokens, 8), nn.Flatten(), nn.Linear(8, 3))
    words, labels = torch.randint(tokens, (samples, 1)), torch.randint(3, (samples,))
    pairs = fishertail.fisher_eigenpairs(model, words, labels, k=k)["0"]
    errors = model.double()(words).softmax(1).detach() - nn.functional.one_hot(labels, 3)
    gradients = errors @ model[2].weight.detach()  # by the embedded token
    blocks = [gradients[words[:, 0] == token] for token in range(tokens)]
    values = torch.cat([torch.linalg.eigvalsh(block.T @ block / samples) for block in blocks])
    np.testing.assert_allclose(pairs.eigenvalues, values.sort(descending=True).values[:k], rtol=RTOL)
    assert pairs.converged.all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ties_have_a_right_eigenvalue_and_a_small_residual(k):
    gradients = np.kron(np.eye(4), np.ones((50, 1))) * np.array([2, 2, 2, 1])  # eigenvalues 1, 1, 1, 1/4
    pairs = eigenpairs_of(gradients, k=k)
    np.testing.assert_allclose(pairs.eigenvalues, 1, rtol=RTOL)
    assert (pairs.residuals < 1e-3).all()
    assert pairs.converged.all()


@pytest.mark.parametrize("scale", [1.0, 1e-20])
@pytest.mark.parametrize("times", [1, 2, 10])
@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_no_copy_of_a_repeated_eigenvalue_is_missed(count, times, scale):
    """In a Gram matrix so large that Lanczos is used, whose Krylov space has one vector for all copies."""
    values = np.repeat(np.geomspace(1, 1e-4, 600 // times), times)
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(600, 600)))[0]
    gram = torch.from_numpy(vectors * values @ vectors.T)
    found, columns = leading_pairs((gram + gram.T) / 2 * scale, count, 1e-9)
    np.testing.assert_allclose(found, values[:count] * scale, rtol=1e-9)
    np.testing.assert_allclose(columns.T @ columns, np.eye(count), atol=1e-9)
    np.testing.assert_allclose(gram @ columns, columns * values[:count], atol=1e-8)


@pytest.mark.parametrize(("samples", "tokens", "k"), [(1500, 200, 5), (1500, 200, 20), (1000, 100, 10)])
@pytest.mark.parametrize("seed", range(2))
def test_no_copy_of_an_eigenvalue_is_missed_by_iteration(samples, tokens, k, seed):
    """Logistic regression on one categorical feature before training: eigenvalues are the counts over 4 N."""
    token = torch.randint(0, tokens, (samples,), generator=torch.Generator().manual_seed(seed))
    model = nn.Linear(tokens, 1, bias=False)
    nn.init.zeros_(model.weight)
    pairs = fishertail.fisher_eigenpairs(
        model,
        nn.functional.one_hot(token, tokens).float(),
        (torch.arange(samples)[:, None] % 2).float(),
        k=k,
        loss=nn.BCEWithLogitsLoss(),
    )["network"]
    counts = np.sort(np.bincount(token, minlength=tokens))[::-1]
    np.testing.assert_allclose(pairs.eigenvalues, counts[:k] / (4 * samples), rtol=RTOL)
    assert pairs.converged.all()


def test_a_rank_below_k_gives_zero_eigenvalues():
    pairs = eigenpairs_of(np.outer(np.arange(1, 30), [1, 2, 0, 0]), k=3)
    expected = 5 * (np.arange(1, 30) ** 2).mean()
    np.testing.assert_allclose(pairs.eigenvalues, [expected, 0, 0], rtol=1e-6, atol=1e-6 * expected)
    assert pairs.converged.all()


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_rank_below_k_ends_the_iteration(rank):
    rng = np.random.default_rng(0)
    gradients = np.zeros((700, 300))
    gradients[:rank] = rng.normal(size=(rank, 300))
    pairs = eigenpairs_of(gradients, k=6)
    values = dense_eigenvalues(gradients)[:6]
    np.testing.assert_allclose(pairs.eigenvalues, values, rtol=RTOL, atol=1e-12 * values[0])
    assert pairs.converged.all()
    assert pairs.products < 20


@pytest.mark.parametrize("samples", [30, 300])
def test_small_eigenvalues_are_not_taken_for_zero(samples):
    """Below 1e-7 of the largest, where entries of the Gram matrix in float32 say nothing about them any more.

    With rows that are nearly parallel they are right to 1 %, over 60 seeds.
    """
    rng = np.random.default_rng(0)
    even = rng.normal(size=(samples, 70))
    parallel = np.outer(rng.normal(size=samples), rng.normal(size=70)) + 1e-4 * even
    uneven = even * np.r_[1, np.full(samples - 1, 1e-6)][:, None]
    for gradients, rtol in ((parallel, 3e-2), (uneven, RTOL)):
        pairs = eigenpairs_of(gradients, k=3)
        values = dense_eigenvalues(gradients.astype(np.float32).astype(np.float64))[:3]
        assert values[1] < 1e-7 * values[0]
        np.testing.assert_allclose(pairs.eigenvalues, values, rtol=rtol)


def test_zero_gradients_have_zero_eigenvalues_and_projections():
    pairs = eigenpairs_of(np.zeros((30, 4)), k=2)
    assert (pairs.eigenvalues == 0).all()
    assert (pairs.projections == 0).all()
    assert (pairs.residuals == 0).all()
    assert pairs.converged.all()
    assert pairs.trace == 0


def test_a_dead_layer_beside_a_live_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias.fill_(-100)  # no unit is active: no gradient reaches the first layer
    pairs = fishertail.fisher_eigenpairs(model, torch.rand(40, 5), torch.arange(40) % 3)
    assert pairs["0"].eigenvalues[0] == 0
    assert pairs["2"].eigenvalues[0] == pytest.approx(pairs["network"].eigenvalues[0])


def test_a_gradient_that_is_not_finite_makes_f_undefined_and_says_so():
    gradients = np.ones((30, 4))
    gradients[3] = np.inf
    pairs = eigenpairs_of(gradients)
    assert np.isinf(pairs.eigenvalues).all()
    assert not pairs.converged.any()
    assert np.isfinite(pairs.projections).all()


def test_one_sample_has_one_eigenpair():
    pairs = eigenpairs_of(np.array([[3.0, 4.0]]))
    assert pairs.eigenvalues[0] == pytest.approx(25)
    np.testing.assert_allclose(pairs.eigenvectors[0], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-16, 1e-8, 1e8])
def test_the_scale_of_the_gradients_changes_nothing_else(scale):
    gradients = with_spectrum(np.geomspace(1, 1e-6, 20), 900)
    reference, scaled = eigenpairs_of(gradients), eigenpairs_of(gradients * scale)
    np.testing.assert_allclose(scaled.eigenvalues, reference.eigenvalues * scale**2, rtol=1e-5)
    assert scaled.products == reference.products


def test_what_did_not_converge_says_so_with_its_true_residual(monkeypatch):
    monkeypatch.setattr(krylov, "MAX_PRODUCTS", 1)
    monkeypatch.setattr(start, "GRAM_SAMPLES", (5, 5))
    gradients = with_spectrum(np.linspace(1, 0.9, 30), 1000)
    pairs = eigenpairs_of(gradients)
    vector = pairs.eigenvectors[0].astype(np.float64)
    residual = np.linalg.norm(gradients.T @ (gradients @ vector) / len(gradients) - pairs.eigenvalues[0] * vector)
    assert not pairs.converged[0]
    assert pairs.residuals[0] == pytest.approx(residual, rel=0.1)


def test_certified_pairs_are_the_largest():
    few = np.concatenate([10 * with_spectrum([1, 0.5], 200), 1e-3 * with_spectrum([1, 1], 1800)])
    even = np.random.default_rng(0).normal(size=(2000, 40))
    assert eigenpairs_of(few).certified.all()
    assert not eigenpairs_of(even).certified.any()


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 10_000), st.integers(1, 60))
def test_invariants(samples, features, seed, batch_size):
    """Order of samples, batches, trace, and eig(G G^T) = eig(G^T G)."""
    rng = np.random.default_rng(seed)
    gradients = (rng.normal(size=(samples, features)) * rng.lognormal(sigma=3, size=(samples, 1))).astype(np.float32)
    model, images, labels, loss = linear_network(gradients)
    order = torch.from_numpy(rng.permutation(samples))
    found = []
    for index in (torch.arange(samples), order):
        with GradientMatrix(model, images[index], labels[index], loss=loss, batch_size=batch_size) as matrix:
            found.append(solved(matrix, {"all": matrix.layers}, matrix.norms(), k=2)["all"])
    gram = np.linalg.eigvalsh(gradients.astype(np.float64) @ gradients.T.astype(np.float64) / samples)[::-1]
    for pairs in found:
        np.testing.assert_allclose(pairs.eigenvalues, gram[:2], rtol=RTOL, atol=1e-6 * gram[0])
        assert pairs.trace == pytest.approx(gram.sum(), rel=1e-5)
    np.testing.assert_allclose(
        np.abs(found[1].projections[:, 0]), np.abs(found[0].projections[order, 0]), atol=1e-2 * gram[0] ** 0.5
    )


def test_f_of_some_samples():
    model, images, labels = digits_network("fc", 5)
    keep = np.arange(len(labels)) % 3 > 0
    norms = fishertail.gradient_norms(model, images, labels)
    with GradientMatrix(model, images, labels) as matrix:
        masks = dict.fromkeys(fisher.scopes_of(matrix), keep)
        some = solved(matrix, fisher.scopes_of(matrix), norms, keep=masks)
    alone = fishertail.fisher_eigenpairs(model, images[keep], labels[keep])
    for scope, pairs in alone.items():
        np.testing.assert_allclose(some[scope].eigenvalues, pairs.eigenvalues, rtol=RTOL)
        assert len(some[scope].projections) == len(labels)


def test_layers_are_chosen_and_unknown_ones_refused():
    model, images, labels = digits_network("fc", 1)
    part = slice(0, 50)
    assert set(fishertail.fisher_eigenpairs(model, images[part], labels[part], layers=["fc4"])) == {"fc4"}
    with pytest.raises(ValueError, match=r"layers: among fc1, .*network expected, found 'fc9'"):
        fishertail.fisher_eigenpairs(model, images[part], labels[part], layers=["fc9"])


@pytest.mark.parametrize("k", [0, 31])
def test_k_beyond_samples_or_parameters_is_refused(k):
    with pytest.raises(ValueError, match="k: 1 to 30"):
        eigenpairs_of(np.ones((30, 4)), k=k)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fc", "conv"])
def test_a_gpu_gives_the_same_eigenvalues(name):
    model, images, labels = digits_network(name, 5)
    cpu, gpu = (fishertail.fisher_eigenpairs(model, images, labels, device=device) for device in ("cpu", "cuda"))
    for scope in cpu:
        np.testing.assert_allclose(gpu[scope].eigenvalues, cpu[scope].eigenvalues, rtol=RTOL)
