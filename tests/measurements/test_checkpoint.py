"""A checkpoint as measurements take it."""

import numpy as np
import torch

from fishertail.measurements import checkpoint
from tests.measurements import measured


def test_an_open_checkpoint_has_its_weights_in_eval_mode_and_its_norms():
    norms = measured.by_gradients("norms")["norms"]
    at_step = norms[norms["step"] == 3].drop(columns=["step", "epoch"]).sample(frac=1, random_state=0)
    model = measured.network().train()
    opened = checkpoint.opened(
        model, 3, measured.weights()[3], measured.samples(), {"norms": at_step}, device="cpu", memory_budget=1e9
    )
    with opened as at:
        assert not model.training
        assert torch.equal(at.model.second.weight, measured.weights()[3]["second.weight"])
        assert (at.step, at.device, at.memory_budget) == (3, "cpu", 1e9)
        found = checkpoint.norms_of(at)
    assert found.layers == tuple(measured.LAYERS)
    np.testing.assert_allclose(
        found.network, np.linalg.norm(measured.gradients(3)["network"], axis=1), rtol=1e-5, atol=1e-12
    )
