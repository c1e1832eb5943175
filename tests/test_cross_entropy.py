"""Cross entropy and its residual, against 50-digit arithmetic where float32 autograd fails."""

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fishertail.cross_entropy import check_labels, losses_and_residuals

logits = st.lists(st.floats(-200, 200, width=32), min_size=2, max_size=12)


@given(logits, st.data())
def test_loss_and_residual_agree_with_50_digits(row, data):
    label = data.draw(st.integers(0, len(row) - 1))
    losses, residuals = losses_and_residuals(torch.tensor([row], dtype=torch.float32), torch.tensor([label]))
    with mpmath.workdps(50):
        margins = [mpmath.mpf(z) - mpmath.mpf(row[label]) for z in torch.tensor(row, dtype=torch.float32).tolist()]
        total = mpmath.fsum(mpmath.exp(m) for i, m in enumerate(margins) if i != label)
        expected = [mpmath.exp(m) / (1 + total) for m in margins]
        expected[label] = -total / (1 + total)
        loss = mpmath.log1p(total)
    assert float(losses[0]) == pytest.approx(float(loss), rel=1e-13, abs=1e-300)
    assert residuals[0].tolist() == pytest.approx([float(e) for e in expected], rel=1e-12, abs=1e-300)


def test_residuals_of_well_fitted_samples_survive_where_float32_autograd_gives_zero():
    row = torch.tensor([[40.0, 0.0, -3.0]], requires_grad=True)
    torch.nn.functional.cross_entropy(row, torch.tensor([0])).backward()
    _, residuals = losses_and_residuals(row.detach(), torch.tensor([0]))
    assert row.grad[0, 0] == 0
    assert residuals[0, 0] == pytest.approx(-4.46e-18, rel=1e-2)


def test_residuals_add_up_to_zero():
    _, residuals = losses_and_residuals(torch.randn(50, 10), torch.randint(10, (50,)))
    assert residuals.sum(1).abs().max() < 1e-15


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0.0, 1.0]), torch.zeros(2, 1).long()]
)
def test_labels_out_of_range_or_of_another_kind_are_refused(labels):
    with pytest.raises(ValueError, match="labels: "):
        check_labels(labels, 3)
