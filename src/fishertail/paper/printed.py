"""The numbers that the paper prints: those of Fig. 6, and what is known of them.

The paper prints one pair for each data set and batch size, and does not say of which network or layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A pair of numbers of Fig. 6.

    Attributes:
        A: lambda_1 over all training samples.
        B: the same without the 10 % of the samples of largest abs(a_x).
        decrease_percent: 100 (1 - B / A), as printed.
        model: the network that it is of, as we infer it: the other one is far from the printed A.
        remark: what contradicts it; empty where nothing does.
    """

    A: float
    B: float
    decrease_percent: float
    model: str
    remark: str = ""


PRINTED: Mapping[tuple[str, int], Printed] = {  # by data set and batch size
    ("cifar10", 16): Printed(76.53, 30.60, 60.0, "conv"),
    ("cifar10", 256): Printed(407.6, 55.66, 86.3, "conv"),
    ("mnist", 16): Printed(
        0.3659, 1e-6, 99.97, "fc", "1e-6 is a decrease of 99.9997 %; the printed 99.97 % implies B = 1.1e-4"
    ),
    ("mnist", 256): Printed(2.063, 0.2182, 90.0, "fc"),
}
