"""Layer rules are found in their folder, and each treats functions that no other does."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fishertail.gradients import layer_rules
from fishertail.gradients.layer_rules.decomposition import DECOMPOSITIONS, Decomposition
from fishertail.gradients.layer_rules.rule import LAYER_RULES, LayerRule, treats

FOLDER = Path(layer_rules.__file__).parent
BASES = {"__init__", "rule", "decomposition", "module_rules"}


def test_every_file_of_the_folder_registers_a_rule():
    kinds = {type(rule) for rule in (*LAYER_RULES.values(), *DECOMPOSITIONS.values())}
    files = {kind.__module__.rpartition(".")[2] for kind in kinds if kind.__module__.startswith(layer_rules.__name__)}
    assert files == {path.stem for path in FOLDER.glob("*.py")} - BASES


def test_a_rule_is_given_the_function_it_treats():
    for function, rule in (LAYER_RULES | DECOMPOSITIONS).items():
        assert isinstance(rule, LayerRule | Decomposition)
        assert rule.function is function


def test_a_second_rule_for_a_function_is_refused():
    with pytest.raises(ValueError, match="linear: one rule expected, found Linear and Other"):

        @treats(F.linear)
        class Other(LayerRule):
            """As good as the first, but which would be used?"""

    assert type(LAYER_RULES[F.linear]).__name__ == "Linear"


def test_a_call_is_bound_by_position_and_by_name():
    inputs, weight, bias = torch.randn(2, 3), torch.randn(4, 3), torch.randn(4)
    rule = LAYER_RULES[F.linear]
    for call in (rule.bind((inputs, weight, bias), {}), rule.bind((inputs,), {"bias": bias, "weight": weight})):
        assert call.input is inputs
        assert call.parameters == {"weight": weight, "bias": bias}
        torch.testing.assert_close(rule.run(call), inputs @ weight.T + bias)
    assert rule.bind((inputs, weight), {}).parameters["bias"] is None
