"""What argparse lacks: numbers in a range, and wrong use as one sentence."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from fishertail.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` where argparse prints how a command is used, and ends the process."""

    def error(self, message: str) -> NoReturn:
        """Name the option and what is wrong."""
        raise UsageError(message.removeprefix("argument "))


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number."""

    def parsed(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"a whole number of {least} or more expected, found {text!r}")
        return number

    return parsed


def positive(below: float = math.inf) -> Callable[[str], float]:
    """The type of an option that is a number above 0."""

    def parsed(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number < below:
            bound = f" and below {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"a number above 0{bound} expected, found {text!r}")
        return number

    return parsed
