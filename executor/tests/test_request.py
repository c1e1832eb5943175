"""How jobs are identified: the same way at every start, and differently once something has changed."""

import subprocess
import sys

import pytest
from snakemake_executor_plugin_queue.request import digest

VALUES = "[{'b', 'a', 'c'}, {'x': 1, ('t', 2): object}, [1.5, None, True], frozenset(['q', 'r'])]"


def test_digests_are_the_same_in_every_process():
    code = f"from snakemake_executor_plugin_queue.request import digest; print(digest({VALUES}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": "1"}, {"a": [1]}, {1: 1}])
def test_digests_tell_values_apart(other):
    assert digest({"a": 1}) != digest(other)


def test_addresses_do_not_count():
    assert digest(object()) == digest(object())
