"""Class weights cancel in the mean of one sample, which is refused wherever a loss is given, and count in the sum."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fishertail
from fishertail.errors import UnsupportedModelError
from fishertail.execution.command_line.validation import validated

WEIGHTS = torch.arange(1.0, 11.0)
MEANS = {
    "cross entropy": nn.CrossEntropyLoss(weight=WEIGHTS),
    "with smoothing": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
    "log-likelihood": nn.NLLLoss(weight=WEIGHTS),
    "a partial function": partial(F.cross_entropy, weight=WEIGHTS),
}
WEIGHTED = MEANS["cross entropy"]
CALLS = {
    "norms": lambda *given, **_: fishertail.gradient_norms(*given, loss=WEIGHTED),
    "eigenpairs": lambda *given, **_: fishertail.fisher_eigenpairs(*given, loss=WEIGHTED),
    "operator": lambda *given, **_: fishertail.FisherOperator(*given, loss=WEIGHTED),
    "watch": lambda *given, folder: fishertail.Watch(*given, loss=WEIGHTED, folder=folder),
    "run": lambda model, *samples, **_: fishertail.analyse_run(
        model, {0: model.state_dict(), 1: {}}, *samples, loss=WEIGHTED, device="cpu"
    ),
    "ranking": lambda *given, **_: fishertail.rank_samples(*given, loss=WEIGHTED, device="cpu"),
    "validation of the command line": lambda *given, **_: validated(*given, loss=WEIGHTED),
}


@pytest.fixture
def some(digits):
    """A network, and thirty of the digits."""
    torch.manual_seed(0)
    images, labels = digits.training_data()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), images[:30], labels[:30]


@pytest.mark.parametrize("loss", MEANS)
def test_a_weighted_mean_is_refused(some, loss):
    with pytest.raises(UnsupportedModelError, match="reduction='sum' expected with class weights"):
        fishertail.gradient_norms(*some, loss=MEANS[loss])


@pytest.mark.parametrize("call", CALLS)
def test_whatever_takes_a_loss_refuses_it(some, call, tmp_path):
    with pytest.raises(UnsupportedModelError, match="found 'mean'"):
        CALLS[call](*some, folder=tmp_path)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_in_a_sum_each_gradient_carries_the_weight_of_its_class(some, reduction):
    labels = some[2]
    weighted = fishertail.gradient_norms(*some, loss=nn.CrossEntropyLoss(weight=WEIGHTS, reduction=reduction))
    plain = fishertail.gradient_norms(*some)
    np.testing.assert_allclose(weighted.network, WEIGHTS[labels].numpy() * plain.network, rtol=1e-5)
