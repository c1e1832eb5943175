"""What a result came from: parameters, code, versions, machine, and the content of the data."""

import ast
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fishertail.results import storage

_PACKAGE = Path(__file__).parents[1]


def provenance(
    rule: str, parameters: Mapping[str, Any], data: Iterable[str], machine: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record that a result file carries.

    Args:
        rule: the rule that made it.
        parameters: its `params`, the hash of the code among them.
        data: content hashes of the data sets it came from.
        machine: see `machine`; for results whose bits depend on it.

    It holds no times and no paths, so that the same work gives the same bytes.
    """
    record: dict[str, Any] = {
        "rule": rule,
        "parameters": dict(parameters),
        "data": sorted(set(data)),
        "versions": {"fishertail": _version("fishertail"), "python": platform.python_version()}
        | {name: _version(name) for name in ("torch", "numpy", "pandas")},
    }
    return record | ({"machine": dict(machine)} if machine else {})


def data_of(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Content hashes of the data sets that the files at `paths` came from."""
    return sorted({content for path in paths for content in storage.read_provenance(path)["data"]})


def machine(device: str, threads: int) -> dict[str, Any]:
    """Hardware and numerical software of this host, as Table 1 of the paper lists them."""
    import psutil
    import torch

    record: dict[str, Any] = {
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


# modules that only describe objects: what a job depends on is in the file of the object itself
_DESCRIPTIONS = frozenset(
    {
        "registry",
        "settings",
        "data.source",
        "measurements.measurement",
        "training.networks.network",
    }
)


@cache
def code_hash(*starts: str) -> str:
    """A hash of what some modules or functions of this package do, and of all of the package that they import.

    Comments, docstrings, annotations and imports for type hints do not count: only a change that can alter results
    makes a rule run again. An import from a folder runs the folder's `__init__`, which therefore counts; one that
    imports all files by its `__path__` brings them all in. The root's `__init__`, which only gives names to users, does
    not count, nor do the registry and the modules that describe registered objects.

    Args:
        starts: dotted names below the package: of a module, "training.sgd"; of a folder, "gradients"; or of a function,
            "measurements.norms:measure", which takes of its own module only what it uses, and what runs at import.
    """
    seen: dict[str, str] = {}
    pending = list(starts)
    while pending:
        start = pending.pop()
        if start in seen or start in _DESCRIPTIONS:
            continue
        try:
            seen[start], imported, discovers = _parsed(*_text(start))
        except LookupError:
            raise ValueError(f"no definition {start!r} in {_PACKAGE}") from None
        if discovers and (folder := _PACKAGE.joinpath(*start.split("."))).is_dir():
            imported = [*imported, *(f"{start}.{file.stem}" for file in folder.iterdir() if file.stem != "__init__")]
        pending += [module for module in imported if _source(module) is not None]
    return hashlib.sha256("\n".join(seen[start] for start in sorted(seen)).encode()).hexdigest()[:16]


def file_hash(name: str) -> str:
    """A hash of a file of this package."""
    return hashlib.sha256((_PACKAGE / name).read_bytes()).hexdigest()[:16]


def folder_hash(name: str) -> str:
    """A hash of all files of a folder of this package."""
    found = sorted(path for path in (_PACKAGE / name).iterdir() if path.is_file())
    content = b"\n".join(path.name.encode() + path.read_bytes() for path in found)
    return hashlib.sha256(content).hexdigest()[:16]


def _text(start: str) -> tuple[str, str, str]:
    """The code of a start of `code_hash`, the folder from which its relative imports begin, and the function or ""."""
    module, _, name = start.partition(":")
    path = _source(module)
    if path is None:
        raise ValueError(f"no module {module!r} in {_PACKAGE}")
    folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return path.read_text(encoding="utf-8"), folder, name


@cache
def _parsed(text: str, folder: str, name: str) -> tuple[str, list[str], bool]:
    """What can alter a result in the code of a module, or in one function of it; and the modules that it may import.

    The third says whether it imports every file of its folder.
    """
    tree = ast.parse(text)
    _WithoutTypeHints().visit(tree)
    _drop_docstrings(tree)
    if name:
        tree.body = _used(tree, name)
    return ast.dump(tree), _package_imports(tree, folder), _imports_its_folder(tree)


def _used(tree: ast.Module, name: str) -> list[ast.stmt]:
    """The statements of a module that define `name`, all that these use of the module, and what runs at its import."""
    defined: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for defines in _defined_by(statement):
            defined.setdefault(defines, []).append(statement)
    if name not in defined:
        raise LookupError(name)
    always = [statement for statement in tree.body if not _defined_by(statement)]
    wanted, reached = [name, *(used for statement in always for used in _names_in(statement))], set()
    while wanted:
        current = wanted.pop()
        if current in reached or current not in defined:
            continue
        reached.add(current)
        for statement in defined[current]:
            wanted += _names_in(statement)
    kept = []
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [alias for alias in statement.names if _name_of(alias) in reached]
        if statement in always or reached & set(_defined_by(statement)):
            kept.append(statement)
    return kept


def _name_of(alias: ast.alias) -> str:
    """The name that an import defines."""
    return alias.asname or alias.name.split(".")[0]


def _names_in(statement: ast.stmt) -> list[str]:
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]


def _defined_by(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [_name_of(alias) for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]


def _source(module: str) -> Path | None:
    """The file of a module of this package, or the `__init__` of a folder."""
    path = _PACKAGE.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _package_imports(tree: ast.AST, folder: str) -> list[str]:
    """The modules of this package that the code of a module in `folder` ("" for the root) may import."""
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
    return [".".join(parts[: count + 1]) for parts in below for count in range(len(parts))]


def _imports_its_folder(tree: ast.AST) -> bool:
    """Whether an `__init__` uses `__path__` as it runs: to import every file of its folder, which no name shows.

    A function that does so when it is called does not count.
    """
    if isinstance(tree, ast.Name) and tree.id == "__path__":
        return True
    inside = () if isinstance(tree, ast.FunctionDef | ast.Lambda) else ast.iter_child_nodes(tree)
    return any(_imports_its_folder(node) for node in inside)


def _for_type_hints(node: ast.If) -> bool:
    return getattr(node.test, "id", getattr(node.test, "attr", None)) == "TYPE_CHECKING"


class _WithoutTypeHints(ast.NodeTransformer):
    """Drops annotations, but for those of classes, which make fields, and the imports that only annotations need."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if node.value is None else ast.Assign([node.target], self.visit(node.value))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        visited = [each if isinstance(each, ast.AnnAssign) else self.visit(each) for each in node.body]
        node.body = [each for each in visited if each is not None]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module in ("typing", "collections.abc") else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _for_type_hints(node) else node


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
