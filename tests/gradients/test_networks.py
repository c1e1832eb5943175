"""Every kind of network is exact: norms, products and lambda_1 against a float64 loop over single samples."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import fishertail
from fishertail.gradients.matrix import GradientMatrix
from tests.gradients.layers import CASES, EXPANDED, LOOP, REPLAYED, RULE
from tests.truth import dense_gradients


def made(case: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model, data = CASES[case].model().eval(), CASES[case].data()
    with torch.no_grad():
        model(data[0][:3])  # lazy layers
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
    return model, *data


def plain_of(case: str, model: nn.Module) -> nn.Module:
    """The network itself, where the model hides it from autograd's eager mode."""
    if CASES[case].plain is None:
        return model
    plain = CASES[case].plain().eval()
    plain.load_state_dict(model.state_dict())
    return plain


def ways(plan) -> set[str]:
    found = {RULE} if plan.by_rule else set()
    found |= {EXPANDED} if plan.expanded else set()
    return found | {LOOP if replay.loop else REPLAYED for replay in plan.replayed.values()}


@pytest.mark.parametrize("case", CASES)
def test_norms_rows_and_lambda_are_exact(case):
    model, inputs, labels = made(case)
    truth = dense_gradients(plain_of(case, model), inputs, labels)
    norms = fishertail.gradient_norms(model, inputs, labels, batch_size=4)  # uneven batches
    plain = {name.removeprefix("_orig_mod").strip("."): part for name, part in truth.items()}
    assert set(norms.layers) == set(plain)
    expected = np.stack([np.linalg.norm(plain[layer], axis=1) for layer in norms.layers], axis=1)
    np.testing.assert_allclose(norms.per_layer, expected, rtol=1e-4, atol=2e-6 * expected.max())
    np.testing.assert_allclose(norms.network, np.linalg.norm(expected, axis=1), rtol=1e-5)
    whole = np.concatenate([plain[layer] for layer in norms.layers], axis=1)
    pairs = fishertail.fisher_eigenpairs(model, inputs, labels, layers=["network"])["network"]
    largest = np.linalg.eigvalsh(whole @ whole.T / len(whole))[-1]
    assert pairs.converged.all()
    assert pairs.eigenvalues[0] == pytest.approx(largest, rel=1e-4)
    with GradientMatrix(model, inputs, labels, batch_size=4) as matrix:
        assert CASES[case].way in ways(matrix.plan)
        assert (CASES[case].way == RULE) == (ways(matrix.plan) == {RULE})
        means = matrix.mean()
        for layer, gradients in plain.items():
            np.testing.assert_allclose(means[layer], gradients.mean(0), rtol=0, atol=1e-5 * np.abs(gradients).max())
            vectors = torch.randn(3, gradients.shape[1])
            parts = [batch.rows[layer].project(vectors) for batch in matrix.batches()]
            wanted = gradients @ vectors.double().numpy().T
            np.testing.assert_allclose(
                torch.cat(parts).numpy(), wanted, rtol=1e-3, atol=1e-5 * max(np.abs(wanted).max(), 1e-30)
            )


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_left_as_it_was(case):
    model, inputs, labels = made(case)
    before = copy.deepcopy(model.state_dict())
    parameters = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    attributes = {name: dict(module.__dict__) for name, module in model.named_modules() if not _scripted(module)}
    hooks = {name: [len(h) for h in _hooks(module)] for name, module in model.named_modules() if not _scripted(module)}
    fishertail.fisher_eigenpairs(model, inputs, labels, layers=["network"])
    with GradientMatrix(model, inputs, labels) as matrix:
        matrix.outputs(torch.arange(len(labels)))
    assert {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)} == parameters
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {n: [len(h) for h in _hooks(m)] for n, m in model.named_modules() if not _scripted(m)} == hooks
    for name, module in model.named_modules():
        if not _scripted(module):
            for attribute, value in attributes[name].items():
                assert module.__dict__[attribute] is value, (name, attribute)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.nn.functional.cross_entropy(model(inputs), labels).backward()
    used = [p for p in model.parameters() if p.grad is not None]
    assert used
    optimizer.step()
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", ["another path for each sample", "weight norm", "LSTM", "scale of a layer"])
def test_hooks_on_the_users_parameters_are_not_called(case):
    model, inputs, labels = made(case)
    expected, calls = fishertail.gradient_norms(model, inputs, labels, batch_size=4), []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: calls.append(gradient) or 0 * gradient)
    found = fishertail.gradient_norms(model, inputs, labels, batch_size=4)
    np.testing.assert_array_equal(found.per_layer, expected.per_layer)
    assert not calls


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _hooks(module: nn.Module):
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
