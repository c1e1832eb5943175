"""The printed numbers of Fig. 6: the percentages agree with A and B, but for one, which says so."""

import subprocess
import sys

import pytest

from fishertail.paper.printed import PRINTED


@pytest.mark.parametrize(("dataset", "batch_size"), [(d, b) for d in ("mnist", "cifar10") for b in (16, 256)])
def test_a_and_b_give_the_printed_decrease_unless_a_remark_says_otherwise(dataset, batch_size):
    printed = PRINTED[dataset, batch_size]
    computed = 100 * (1 - printed.B / printed.A)
    if printed.remark:
        assert computed == pytest.approx(99.9997, abs=5e-5)
        assert printed.A * (1 - printed.decrease_percent / 100) == pytest.approx(1.1e-4, rel=0.01)
    else:
        assert computed == pytest.approx(printed.decrease_percent, abs=0.6)  # 89.4 % is printed as 90 %


def test_one_pair_alone_contradicts_itself():
    assert [key for key, printed in PRINTED.items() if printed.remark] == [("mnist", 16)]


def test_the_numbers_cost_no_import():
    code = "import sys, fishertail.paper.printed; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
