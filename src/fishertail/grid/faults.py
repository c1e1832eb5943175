"""Faults of single keys, as pydantic finds them, in words that name the key, what was expected and what was found."""

import copy
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Validated = TypeVar("Validated", bound=BaseModel)
Path = tuple[Any, ...]

# drop the tags with which pydantic marks a mapping's keys and the members of a union: users know their keys only
_TAGS = re.compile(r"^(constrained-|list\[|dict\[|literal\[|int$|float$|function-|\[key\]$)")
_WRONG_KIND = (
    "dict_type", "list_type", "literal_error", "int_type", "int_parsing", "float_type", "float_parsing", "model_type",
)  # fmt: skip


def validated(kind: type[Validated], raw: Mapping[str, Any]) -> tuple[Validated, list[str], set[str]]:
    """A configuration, the faults of single keys, and the dotted paths of these keys, which hold defaults in it.

    What depends on a key that holds a default is not to be judged.
    """
    rest: dict[str, Any] = copy.deepcopy(dict(raw))
    faults: list[str] = []
    broken: set[str] = set()
    while True:
        try:
            return kind.model_validate(rest), faults, broken
        except ValidationError as error:
            found = error.errors()
            faults += described(found)
            for path in {_innermost(rest, fault["loc"]) for fault in found}:
                _set_aside(rest, path)
                broken.add(".".join(map(str, path)))


_STAND_INS: dict[str, Any] = {"learning_rate": 1.0, "figure_layer": "network", "factory": "builtins:object"}


def _innermost(raw: Mapping[str, Any], location: Path) -> Path:
    """The path of the innermost key on the way to `location` that `raw` has, or that an architecture must have."""
    path: Path = ()
    inner: Any = raw
    for part in location:
        key = next((key for key in inner if str(key) == str(part)), None) if isinstance(inner, dict) else None
        if key is None:
            required = len(path) == 2 and path[0] == "architectures" and part in _STAND_INS
            return (*path, part) if required else path
        path, inner = (*path, key), inner[key]
    return path


def _set_aside(raw: dict[str, Any], path: Path) -> None:
    """Give the key at `path` its default."""
    *sections, key = path
    inner = raw
    for section in sections:
        inner = inner.get(section, {})  # removed already if it is faulty as a whole
    stand_in = _STAND_INS.get(key) if len(path) == 3 and path[0] == "architectures" else None
    if stand_in is not None and inner.get(key) != stand_in:  # a built-in network has no factory: not even a stand-in
        inner[key] = _STAND_INS[key]
    else:
        inner.pop(key, None)


def described(found: list[Any]) -> list[str]:
    """One line for each faulty key, however many types it may have."""
    by_path: dict[str, list[Any]] = {}
    for fault in found:
        path = ".".join(str(part) for part in fault["loc"] if not _TAGS.match(str(part)))
        by_path.setdefault(path, []).append(fault)
    lines = []
    for path, faults in by_path.items():
        # a member of a union that accepts the kind of value says more, about the value or about a part of it
        saying_more = [fault for fault in faults if fault["type"] not in _WRONG_KIND]
        if saying_more or not any(other.startswith(f"{path}.") for other in by_path):
            lines.append(_line(path, saying_more or faults))
    return lines


def _line(path: str, faults: list[Any]) -> str:
    if faults[0]["type"] == "extra_forbidden":
        return f"{path}: {_moved(path)}"
    messages = [fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for fault in faults]
    start = "input should be " if faults[0]["msg"].startswith("Input should be ") else ""
    message = " or ".join(dict.fromkeys(messages))
    return f"{path}: {start}{message if start else message[0].lower() + message[1:]}, found {faults[0]['input']!r}"


def _moved(path: str) -> str:
    """What has become of a key of version 0.1; of any other, that it is unknown."""
    if path == "analysis":
        return "since version 0.2 the section measurements, with a section for each of them (docs/reference.md)"
    if re.fullmatch(r"architectures\.\w+\.(factory|arguments)", path):
        return "unknown key: a network of this name is built in; give your own another name"
    return "unknown key"
