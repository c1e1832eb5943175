"""Whatever is done where training must not notice it, an error included, is as if it had not been done."""

import random

import numpy as np
import pytest
import torch

from fishertail.execution.live.undisturbed import undisturbed

CPU = torch.device("cpu")


def drawn():
    """Random numbers of the three kinds that trainings draw, and of those that are drawn in pairs."""
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()


@pytest.mark.parametrize("fails", [False, True])
def test_random_states_and_settings_are_as_before(fails):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    drawn()
    cudnn = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    settings = [place.fp32_precision for place in places]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    cudnn.benchmark = True
    try:
        with undisturbed(CPU):
            drawn()
            random.seed(5), np.random.seed(5), torch.manual_seed(5)
            assert not cudnn.benchmark
            assert [place.fp32_precision for place in places] == ["ieee"] * 3
            if fails:
                raise MemoryError
    except MemoryError:
        assert fails
    assert cudnn.benchmark
    cudnn.benchmark = False
    assert [place.fp32_precision for place in places] == settings
    assert drawn() == expected


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_it_is_as_at_the_start_of_a_program(mode):
    weight = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), mode():
        with undisturbed(CPU):
            product = weight @ weight
            assert product.dtype == torch.float32
            product.sum().backward()
        assert (weight @ weight).dtype == torch.bfloat16
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.equal(weight.grad, torch.full((2, 2), 4.0))
