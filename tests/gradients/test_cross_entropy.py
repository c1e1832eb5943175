"""Cross entropy and its residual, against 50-digit arithmetic where float32 autograd fails."""

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fishertail.gradients.cross_entropy import differentiable_losses, losses_and_residuals, losses_of
from fishertail.gradients.losses import CrossEntropy

logits = st.lists(st.floats(-200, 200, width=32), min_size=2, max_size=12)


@pytest.mark.parametrize("exact", [True, False])
@given(logits, st.data())
def test_loss_and_residual_agree_with_50_digits(exact, row, data):
    label = data.draw(st.integers(0, len(row) - 1))
    logits = torch.tensor([row], dtype=torch.float64 if exact else torch.float32)
    losses, residuals, scale = losses_and_residuals(logits, torch.tensor([label]))
    assert scale.log2().frac() == 0
    residuals = residuals.double() * scale
    with mpmath.workdps(50):
        margins = [mpmath.mpf(z) - mpmath.mpf(row[label]) for z in torch.tensor(row, dtype=torch.float32).tolist()]
        total = mpmath.fsum(mpmath.exp(m) for i, m in enumerate(margins) if i != label)
        expected = [mpmath.exp(m) / (1 + total) for m in margins]
        expected[label] = -total / (1 + total)
        loss = mpmath.log1p(total)
    assert float(losses[0]) == pytest.approx(float(loss), rel=1e-13, abs=1e-300)
    assert losses_of(logits, torch.tensor([label]))[0] == losses[0]
    largest = max(abs(float(e)) for e in expected)
    tolerance = {"rel": 1e-12, "abs": 1e-300} if exact else {"rel": 1e-6, "abs": 1e-37 * largest}
    assert residuals[0].tolist() == pytest.approx([float(e) for e in expected], **tolerance)


def test_residuals_of_well_fitted_samples_survive_where_float32_autograd_gives_zero():
    row = torch.tensor([[40.0, 0.0, -3.0]], requires_grad=True)
    torch.nn.functional.cross_entropy(row, torch.tensor([0])).backward()
    _, residuals, scale = losses_and_residuals(row.detach(), torch.tensor([0]))
    assert row.grad[0, 0] == 0
    assert residuals[0, 0] * scale[0] == pytest.approx(-4.46e-18, rel=1e-2)


def test_residuals_add_up_to_zero():
    _, residuals, _ = losses_and_residuals(torch.randn(50, 10, dtype=torch.float64), torch.randint(10, (50,)))
    assert residuals.sum(1).abs().max() < 1e-15


def test_positions_of_a_sample_share_a_scale():
    logits, labels = torch.randn(70, 3, 5, 11), torch.randint(11, (70, 3, 5))
    weights = torch.rand(70, 3, 5, dtype=torch.float64)
    weights[4] = 0
    losses, residuals, scale = losses_and_residuals(logits, labels, weights)
    exact = logits.double().requires_grad_()
    by_position = torch.nn.functional.cross_entropy(exact.movedim(-1, 1), labels, reduction="none") * weights
    (expected,) = torch.autograd.grad(by_position.sum(), exact)
    torch.testing.assert_close(losses, by_position.detach().sum((1, 2)))
    torch.testing.assert_close(residuals.double() * scale.view(-1, 1, 1, 1), expected, rtol=1e-6, atol=1e-8)
    largest = residuals.flatten(1).abs().amax(1)
    assert ((largest >= 0.999) & (largest < 2.001) | (torch.arange(70) == 4)).all()
    assert (losses[4], scale[4], largest[4]) == (0, 1, 0)


@pytest.mark.parametrize("margin", [-30.0, 0.0, 30.0, 60.0, 300.0])
def test_second_derivatives_are_exact_however_well_a_sample_is_fitted(margin):
    row = torch.tensor([margin, 0.0, -3.0], dtype=torch.float64)

    def loss(logits):
        return differentiable_losses(logits[None], torch.tensor([0]))[0]

    others = torch.exp(row - margin)[1:]
    total = others.sum()
    p = torch.cat([torch.ones(1, dtype=torch.float64), others]) / (1 + total)
    expected = p.diag() - torch.outer(p, p)
    expected.diagonal()[:] = torch.cat([total[None] / (1 + total) ** 2, p[1:] * (1 + total - others) / (1 + total)])
    assert float(loss(row)) == pytest.approx(float(total.log1p()), rel=1e-14)
    for hessian in (torch.func.hessian(loss)(row), torch.autograd.functional.hessian(loss, row)):
        torch.testing.assert_close(hessian, expected, rtol=1e-12, atol=1e-14 * float(expected.max()))


def test_ignored_positions_may_have_any_logits():
    """A language model may give a token that never occurs, as that of padding, the logit -inf."""
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    logits[..., 0] = -torch.inf
    labels = torch.tensor([[1, -100, 4, 2], [-100] * 4, [3, 1, 2, 4]])
    exact = logits.clone().requires_grad_()
    losses = [torch.nn.functional.cross_entropy(exact[i], labels[i]) for i in (0, 2)]
    losses.insert(1, exact.new_zeros(()))
    (expected,) = torch.autograd.grad(torch.stack(losses).sum(), exact)
    found, again = CrossEntropy(default=True)(logits, labels), logits.clone().requires_grad_()
    torch.testing.assert_close(found.loss, torch.stack(losses).detach())
    torch.testing.assert_close(found.residuals * found.scale.view(-1, 1, 1), expected)
    (by_total,) = torch.autograd.grad(CrossEntropy(default=True).total(again, labels), again)
    torch.testing.assert_close(by_total, expected)
