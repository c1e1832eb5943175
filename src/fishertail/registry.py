"""One file for one thing: find what the modules of a folder register, without a list to edit."""

import importlib
import pkgutil
from collections.abc import Collection
from functools import cache
from typing import TypeVar

Registered = TypeVar("Registered")


@cache
def registered(
    package: str, constant: str, kind: type[Registered], others: Collection[str] = frozenset()
) -> dict[str, Registered]:
    """The objects that the modules of a package register, by their names, in the order of the modules' names.

    The modules are imported, so at their top they import the standard library, pydantic and what describes such an
    object, and nothing heavy: the Snakefile asks for all of them while it is parsed.

    Args:
        package: dotted name of the package.
        constant: the name of the object in each module, such as MEASUREMENT.
        kind: its type, which has a field `name`.
        others: modules of the package that register nothing.

    Raises:
        TypeError: a module lacks the constant, holds something else in it, or repeats a name.
    """
    found: dict[str, Registered] = {}
    folder = importlib.import_module(package)
    for info in sorted(pkgutil.iter_modules(folder.__path__), key=lambda info: info.name):
        if info.name in others:
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        thing = getattr(module, constant, None)
        if not isinstance(thing, kind):
            raise TypeError(f"{module.__file__}: {constant}, a {kind.__name__}, expected, found {thing!r}")
        name = getattr(thing, "name")  # noqa: B009 (the type parameter does not say that it has one)
        if name in found:
            raise TypeError(f"{module.__file__}: {constant} has the name {name!r}, which another module also has")
        found[name] = thing
    return found


def module_of(package: str, constant: str, thing: object, others: Collection[str] = frozenset()) -> str:
    """The module of this package that registers `thing`, as a hash of code names it: "measurements.norms"."""
    folder = importlib.import_module(package)
    for info in pkgutil.iter_modules(folder.__path__):
        if info.name in others:
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        if getattr(module, constant, None) is thing:
            return module.__name__.partition(".")[2]
    raise ValueError(f"{thing!r} is not registered in {package}")
