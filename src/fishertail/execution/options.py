"""The options of measurements outside the workflow: those of a call, over the defaults of the configuration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from torch import nn

from fishertail.gradients.model_checks import NETWORK, check_names
from fishertail.grid.faults import described
from fishertail.measurements.measurement import Measurement, Options, measurements

Given = Mapping[str, Mapping[str, Any]]  # by measurement and option
_OF_THE_WORKFLOW = ("enabled", "checkpoints")


def sections(
    model: nn.Module,
    chosen: Sequence[Measurement],
    given: Given | None,
    *,
    layers: Sequence[str] | None,
    k: int,
    rtol: float,
    threshold: float,
) -> dict[str, Options]:
    """The options of all measurements by name, as the workflow has them of its configuration.

    Args:
        chosen: the measurements that are made.
        given: the options of some of them, which count before the other arguments.
        layers, k, rtol, threshold: see `analyse_run`.

    Raises:
        ValueError: names the measurement and the option, or the layer, that does not exist, or whose value is wrong.
    """
    check_names(layers, _known_layers(model))
    _check_layers(model, layers or (), "layers")
    given = given or {}
    taken = list(dict.fromkeys(name for each in chosen for name in (each.name, *each.options_of)))
    for name, own in given.items():
        if name not in taken:
            raise ValueError(f"options: of what is measured ({', '.join(taken)}) expected, found those of {name!r}")
        _check_names(name, own)
        several = own.get("layers")
        _check_layers(model, several if isinstance(several, list | tuple) else (), f"options of {name}: layers")
        _check_layers(model, [own["layer"]] if "layer" in own else (), f"options of {name}: layer")
    from_call: dict[str, dict[str, Any]] = {
        "spectrum": {"eigenpairs": k, "tolerance": rtol},
        "outliers": {"threshold": threshold},
    }
    if layers is not None:
        for name, each in measurements().items():
            field = each.options.model_fields.get("layers")
            if field is not None and field.default == "all":
                from_call.setdefault(name, {})["layers"] = list(layers)
    found = {}
    for name, each in measurements().items():
        try:
            found[name] = each.options(**{**from_call.get(name, {}), **given.get(name, {})})
        except ValidationError as error:
            faults = "; ".join(line.removeprefix(": ") for line in described(error.errors()))
            raise ValueError(f"options of {name}: {faults}") from error
    return found


def checked_steps_per_epoch(steps: float | None) -> float:
    """The number that the column `epoch` is told by; NaN for None.

    Raises:
        ValueError: it is none above 0.
    """
    if steps is None:
        return float("nan")
    if not 0 < steps < math.inf:
        raise ValueError(f"steps_per_epoch: a number above 0 expected, found {steps}")
    return float(steps)


def _check_names(name: str, own: Any) -> None:
    known = [key for key in measurements()[name].options.model_fields if key not in _OF_THE_WORKFLOW]
    if not isinstance(own, Mapping):
        raise ValueError(f"options of {name}: values by option expected, found {own!r}")
    unknown = [key for key in own if key not in known]
    if unknown:
        expected = f"among {', '.join(known)}" if known else "none"
        raise ValueError(f"options of {name}: {expected} expected, found {', '.join(map(repr, unknown))}")


def _check_layers(model: nn.Module, layers: Sequence[str], where: str) -> None:
    """Before a pass is paid for: the workflow leaves layers out that a model lacks, since a grid has several."""
    known = _known_layers(model)
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(f"{where}: among {', '.join(known)} expected, found {', '.join(map(repr, unknown))}")


def _known_layers(model: nn.Module) -> list[str]:
    owners = (name for name, each in model.named_modules() if next(each.parameters(recurse=False), None) is not None)
    return [*owners, NETWORK]
