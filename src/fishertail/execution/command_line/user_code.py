"""A user's functions, by `package.module:name`."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fishertail.errors import UsageError


def function(path: str, option: str) -> Callable[..., Any]:
    """The function of a name; modules of the working directory are found, too.

    Args:
        option: what an error calls it.

    Raises:
        UsageError: there is no such module or function, or the module raises when it is imported.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"{option}: package.module:function expected, found {path!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{option}: {path!r}: no module named {error.name!r}, looked for in {os.getcwd()}, too"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module does
        raise UsageError(f"{option}: importing {module} raised {_said(error)}") from error
    try:
        found = getattr(imported, name)
    except AttributeError as error:
        raise UsageError(f"{option}: {path!r}: {error}") from error
    if not callable(found):
        raise UsageError(f"{option}: a function expected, found {path!r}, which is {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def result_of(path: str, option: str, **arguments: Any) -> Any:
    """What the function of a name gives.

    Raises:
        UsageError: there is no such function, or it raises.
    """
    called = function(path, option)
    try:
        return called(**arguments)
    except Exception as error:
        raise UsageError(f"{option}: {path} raised {_said(error)}") from error


def _said(error: BaseException) -> str:
    """An error in one line, with the last place in the user's files; a SyntaxError names its own."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename != __file__]
    own = [each for each in frames if not each.filename.startswith((sys.prefix, sys.base_prefix, "<frozen"))]
    if isinstance(error, SyntaxError) or not frames:
        return said
    last = (own or frames)[-1]
    return f"{said} ({os.path.basename(last.filename)}, line {last.lineno})"
