"""What a result came from: parameters, code, versions, machine, and the content of the data."""

import ast
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from fishertail import storage

_PACKAGE = Path(__file__).parent


def provenance(rule: str, parameters: Mapping, data: Iterable[str], machine: Mapping | None = None) -> dict:
    """The record that a result file carries.

    Args:
        rule: the rule that made it.
        parameters: its `params`, the hash of the code among them.
        data: content hashes of the data sets it came from.
        machine: see `machine`; for results whose bits depend on it.

    It holds no times and no paths, so that the same work gives the same bytes.
    """
    record = {
        "rule": rule,
        "parameters": dict(parameters),
        "data": sorted(set(data)),
        "versions": {"fishertail": _version("fishertail"), "python": platform.python_version()}
        | {name: _version(name) for name in ("torch", "numpy", "pandas")},
    }
    return record | ({"machine": dict(machine)} if machine else {})


def data_of(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Content hashes of the data sets that the files at `paths` came from."""
    return sorted({content for path in paths for content in storage.read_provenance(path)["data"]})


def machine(device: str, threads: int) -> dict:
    """Hardware and numerical software of this host, as Table 1 of the paper lists them."""
    import psutil
    import torch

    record = {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.release()}",
        "device": device,
        "threads": threads,
    }
    kind = torch.device(device).type
    if kind != "cpu" and hasattr(module := getattr(torch, kind), "get_device_name"):
        record["gpu"] = module.get_device_name(device)
    return record | ({"cuda": torch.version.cuda} if kind == "cuda" else {})


@cache
def code_hash(*modules: str) -> str:
    """A hash of what `modules` of this package do, and of every module of the package that they import.

    Comments, docstrings and imports for type hints do not count: only a change that can alter results makes a rule run
    again. Imports are followed into folders, whose `__init__` they run, so that it counts, too, and with it all files
    of the folder if it imports these by its `__path__`. The root's `__init__` does not count: it gives names to users,
    and imports nothing by itself.

    Args:
        modules: dotted names below the package: "training", "gradients.matrix", or a folder, "gradients".
    """
    pending, seen = list(modules), {}
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        path = _source(module)
        if path is None:
            raise ValueError(f"no module {module!r} in {_PACKAGE}")
        tree = _WithoutTypeHints().visit(ast.parse(path.read_text()))
        pending += _package_imports(tree, module if path.name == "__init__.py" else module.rpartition(".")[0])
        if path.name == "__init__.py" and _imports_its_folder(tree):
            names = {f"{module}.{file.stem}" for file in path.parent.iterdir() if file != path}
            pending += [name for name in names if _source(name) is not None]
        _drop_docstrings(tree)
        seen[module] = ast.dump(tree)
    return hashlib.sha256("\n".join(seen[module] for module in sorted(seen)).encode()).hexdigest()[:16]


def folder_hash(name: str) -> str:
    """A hash of all files of a folder of this package."""
    found = sorted(path for path in (_PACKAGE / name).iterdir() if path.is_file())
    content = b"\n".join(path.name.encode() + path.read_bytes() for path in found)
    return hashlib.sha256(content).hexdigest()[:16]


def _source(module: str) -> Path | None:
    """The file of a module of this package, or the `__init__` of a folder."""
    path = _PACKAGE.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _package_imports(tree: ast.AST, folder: str) -> list[str]:
    """The modules of this package that the code of a module in `folder` ("" for the root) imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["fishertail", *filter(None, folder.split("."))]
            start = above[: len(above) - node.level + 1] if node.level else []
            origin = start + (node.module.split(".") if node.module else [])
            names += [[*origin, alias.name] for alias in node.names]  # a name may be a module
    below = [parts[1:] for parts in names if parts[0] == "fishertail"]
    found = [".".join(parts[: count + 1]) for parts in below for count in range(len(parts))]
    return [module for module in found if _source(module) is not None]


def _imports_its_folder(tree: ast.AST) -> bool:
    """Whether an `__init__` uses `__path__` as it runs: to import every file of its folder, which no name shows.

    A function that does so when it is called does not count.
    """
    if isinstance(tree, ast.Name) and tree.id == "__path__":
        return True
    inside = () if isinstance(tree, ast.FunctionDef | ast.Lambda) else ast.iter_child_nodes(tree)
    return any(_imports_its_folder(node) for node in inside)


class _WithoutTypeHints(ast.NodeTransformer):
    """Drops the imports below `if TYPE_CHECKING:`, which are never executed."""

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        tested = getattr(node.test, "id", getattr(node.test, "attr", None))
        return ast.If(node.test, [ast.Pass()], node.orelse) if tested == "TYPE_CHECKING" else node


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
