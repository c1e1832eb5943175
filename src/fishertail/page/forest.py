"""Claims as effects with intervals beside their bounds: where each is on its axis, in per cent of the width."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fishertail.paper.claims.claim import Quantity, claims
from fishertail.paper.claims.judging import SCALES

_POWERS = range(-30, 31)
_TICKS = {
    "ratio": [float(f"1e{power}") for power in _POWERS],
    "share": [1e-5, 0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999],
}
_FINE_TICKS = {
    "ratio": [float(f"{digit}e{power}") for power in _POWERS for digit in (1, 2, 5)],
    "share": [*(digit * 10**power for power in (-5, -4, -3, -2) for digit in (1, 2, 5)), *np.arange(1, 10) / 10],
}
_FEWEST_TICKS, _MOST_TICKS = 3, 6
_BEYOND = 0.25  # how much of the span of effects and bounds is shown of an interval beyond them, on either side


def forests(effects: pd.DataFrame, verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """What the page shows of each claim.

    Args:
        effects: the table claim_effects, whose quantities of a claim are in the order in which the claim declares them.
        verdicts: the table claims.

    Returns:
        for each claim its number, statement, verdict and `quantities`: meaning, claimed, decides, `rows` (network,
        votes, text, verdict, note, `at`, `low` and `high`, which are None where there is none, and whether the interval
        reaches beyond either end), `bounds`, `ticks`, and `csv`, the rows with their numbers.
    """
    shown = []
    for claim in verdicts.to_dict("records"):
        part, declared = effects[effects["claim"] == claim["claim"]], claims()[str(claim["claim"])].quantities
        groups = part.groupby("quantity", sort=False)
        pairs = zip(groups, declared, strict=True)
        quantities = [_forest(str(meaning), rows, quantity) for (meaning, rows), quantity in pairs]
        shown.append({key: claim[key] for key in ("claim", "statement", "verdict")} | {"quantities": quantities})
    return shown


def _forest(meaning: str, rows: pd.DataFrame, quantity: Quantity) -> dict[str, Any]:
    axis = _Axis(rows, quantity)
    shown = rows[rows["votes"] | rows["effect"].notna()]  # of those without a vote, what was measured
    return {
        "meaning": meaning,
        "claimed": quantity.bound,
        "decides": quantity.decides,
        "rows": [_row(row, axis) for row in shown.to_dict("records")],
        "bounds": [axis.percent(bound) for bound in (quantity.lower, quantity.upper) if np.isfinite(bound)],
        "ticks": axis.ticks(),
        "csv": rows.astype(object).where(rows.notna(), None).to_dict("records"),
    }


def _row(row: Mapping[Any, Any], axis: "_Axis") -> dict[str, Any]:
    low, high = axis.percent(row["low"]), axis.percent(row["high"])
    return {
        "network": "all runs" if row["dataset"] == "all" else f"{row['dataset']}-{row['model']}, {row['batch_size']}",
        "votes": bool(row["votes"]),
        "text": _text(row, axis),
        "verdict": row["verdict"] if isinstance(row["verdict"], str) else "",
        "note": row["note"] if isinstance(row["note"], str) else "",
        "at": axis.percent(row["effect"]),
        "low": low,
        "high": high,
        "reaches": [low is not None and low <= 0, high is not None and high >= 100],
    }


def _text(row: Mapping[Any, Any], axis: "_Axis") -> str:
    if np.isnan(row["effect"]):
        return "–"
    interval = "" if np.isnan(row["low"]) else f" ({axis.text(row['low'])} to {axis.text(row['high'])})"
    return f"{axis.text(row['effect'])}{interval}"


class _Axis:
    """The axis of a quantity, on the scale on which its mean is taken: all effects and bounds, and intervals near them.

    With two seeds an interval may span twenty powers of ten, which would leave the effects a point.
    """

    def __init__(self, rows: pd.DataFrame, quantity: Quantity) -> None:
        self._scale, self._name = SCALES[quantity.scale], quantity.scale
        bounds = [bound for bound in (quantity.lower, quantity.upper) if np.isfinite(bound)]
        known = self._positions([*rows["effect"], *bounds])
        inner = known if len(known) else np.zeros(1)
        ends = self._positions([*rows["low"], *rows["high"]])
        spread = float(np.ptp(inner))
        middle, span = (inner.min() + inner.max()) / 2, spread or 1.0
        margin = 0.04 * span if spread else 0.5  # around a lone value wide enough for a tick
        outer = (0.5 + _BEYOND) * span
        low, high = middle - outer, middle + outer
        near = ends[(ends >= low) & (ends <= high)]
        self._low = min([inner.min(), *near]) - margin if (ends >= low).all() else low
        self._high = max([inner.max(), *near]) + margin if (ends <= high).all() else high

    def percent(self, value: float) -> float | None:
        """The place of a value, from 0 to 100; None for NaN."""
        found = self._positions([value])
        if not len(found):
            return None
        return float(np.clip(100 * (found[0] - self._low) / (self._high - self._low), 0, 100).round(2))

    def text(self, value: float) -> str:
        """To two or three digits, of what is left to 1 where the scale ends there."""
        if self._name == "share" and 0.5 < value < 1:
            return f"{value:.{max(0, 1 - int(np.floor(np.log10(1 - value))))}f}"
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value + 0.0:.3g}"

    def ticks(self) -> list[dict[str, Any]]:
        """Places and texts."""
        values = self._inside(_TICKS.get(self._name, self._round_numbers()))
        if len(values) < _FEWEST_TICKS:
            values = self._inside(_FINE_TICKS.get(self._name, values))
        kept = values[:: int(np.ceil(len(values) / _MOST_TICKS)) or 1]
        return [
            {"at": self.percent(value), "text": f"{value:,g}" if abs(value) < 1e6 else f"{value:g}"} for value in kept
        ]

    def _inside(self, values: Any) -> Any:
        values = np.asarray(values)
        places = self._positions(values)
        return values[(places >= self._low) & (places <= self._high)]

    def _positions(self, values: Sequence[float] | Any) -> Any:
        """Of those that are numbers; an infinite one, such as of a ratio to 0, is put at the end of the floats."""
        known = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            places = np.asarray(self._scale.forward(known[~np.isnan(known)]))
        return np.nan_to_num(places, nan=0.0, posinf=700.0, neginf=-700.0)

    def _round_numbers(self) -> Any:
        """Multiples of a power of ten, where the scale is linear."""
        step = 10.0 ** np.floor(np.log10((self._high - self._low) / 2))
        first = np.ceil(self._low / step)
        return step * np.arange(first, np.floor(self._high / step) + 1) + 0.0  # no -0
