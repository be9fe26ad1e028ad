"""Find modules and names in source files by parsing. Nothing is imported."""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DEEPEST = 12  # a name is followed through so many files


class NotThere(LookupError):
    """The target does not name a module, or a name in a module."""


class Unreadable(Exception):
    """The source code is not simple enough to be read in this way."""


class Module(NamedTuple):
    name: str
    file: Path
    body: dict[str, ast.stmt]
    """For each name at the top level, the last statement that binds it."""
    stars: list[str]
    """The modules of ``from … import *``."""


class Found(NamedTuple):
    """A statement, and its module."""

    module: Module
    node: ast.AST


@functools.cache
def _module_file(name: str) -> Path | None:
    """The source file of a module; None for a package without one. Raises NotThere, and Unreadable for a compiled module."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # for a top-level name, this runs no code
    except (ImportError, ValueError) as error:  # such as __main__, which has no spec
        raise Unreadable(name) from error
    if spec is None and top in sys.modules:
        raise Unreadable(name)
    if spec is None:
        raise NotThere(f"there is no package {top!r}")
    if not spec.submodule_search_locations:
        if rest or not spec.origin:
            raise NotThere(f"there is no module {name!r}")
        return _source(Path(spec.origin))
    folders = [Path(place) for place in spec.submodule_search_locations]
    for number, part in enumerate(rest, start=1):
        file = next((folder / f"{part}.py" for folder in folders if (folder / f"{part}.py").is_file()), None)
        compiled = [binary for folder in folders for binary in folder.glob(f"{part}.*so")]
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        if not folders and file and number == len(rest):
            return file
        if not folders and compiled:
            raise Unreadable(name)
        if not folders:
            raise NotThere(f"there is no module {name!r}")
    return next((folder / "__init__.py" for folder in folders if (folder / "__init__.py").is_file()), None)


def _source(file: Path) -> Path:
    if file.suffix != ".py":
        raise Unreadable(str(file))
    return file


def split_target(target: str) -> tuple[str, list[str]]:
    """Split a dotted path into the longest prefix that is a module, and the names after it."""
    words = target.split(".")
    for end in range(len(words), 0, -1):
        try:
            _module_file(".".join(words[:end]))
        except NotThere:
            if end == 1:
                raise
            continue
        return ".".join(words[:end]), words[end:]
    raise NotThere(target)


@functools.cache
def module_of(name: str) -> Module:
    file = _module_file(name)
    if file is None:
        raise Unreadable(name)
    body: dict[str, ast.stmt] = {}
    stars: list[str] = []
    for statement in _statements(ast.parse(file.read_bytes()).body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                if alias.name == "*":
                    stars.append(absolute(name, file, statement))  # type: ignore[arg-type]
                else:
                    body[alias.asname or alias.name.split(".")[0]] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            body.update({target.id: statement for target in targets if isinstance(target, ast.Name)})
    return Module(name, file, body, stars)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those inside ``if`` and ``try``."""
    for statement in body:
        yield statement
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try):
                yield from _statements(getattr(statement, inner, []))


def absolute(name: str, file: Path, statement: ast.ImportFrom) -> str:
    """The absolute name of the module in ``from … import``, which may be relative to ``name``."""
    if not statement.level:
        return statement.module or ""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    package = package[: len(package) - statement.level + 1]
    return ".".join([*package, *([statement.module] if statement.module else [])])


def find(module: str, name: str, depth: int) -> Found:
    """The definition of a name, followed through imports."""
    if depth > DEEPEST:
        raise Unreadable(name)
    source = module_of(module)
    node = source.body.get(name)
    if isinstance(node, ast.ImportFrom):
        origin = absolute(module, source.file, node)
        alias = next(a for a in node.names if (a.asname or a.name) == name)
        return find(origin, alias.name, depth + 1)
    if isinstance(node, ast.Import):
        raise Unreadable(name)
    if node is not None:
        return Found(source, node)
    for star in source.stars:
        try:
            return find(star, name, depth + 1)
        except NotThere:
            continue
    if "__getattr__" in source.body:
        raise Unreadable(name)
    raise NotThere(f"there is no {name!r} in {module}")


def resolve(module: Module, node: ast.expr) -> Found:
    """The definition of ``Name`` or ``package.Name`` as it is used in a module."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return find(module.name, node.id, 0)
    if isinstance(node, ast.Attribute):
        return find(module_named(module, node.value), node.attr, 0)
    raise Unreadable


def last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def module_named(module: Module, node: ast.expr) -> str:
    """The module that an expression such as ``nn`` or ``torch.nn`` stands for."""
    if isinstance(node, ast.Attribute):
        return f"{module_named(module, node.value)}.{node.attr}"
    statement = module.body.get(node.id) if isinstance(node, ast.Name) else None
    if isinstance(statement, ast.Import):
        alias = next(a for a in statement.names if (a.asname or a.name.split(".")[0]) == node.id)  # type: ignore[attr-defined]
        return alias.name if alias.asname else alias.name.split(".")[0]
    if isinstance(statement, ast.ImportFrom):
        alias = next(a for a in statement.names if (a.asname or a.name) == node.id)  # type: ignore[attr-defined]
        return f"{absolute(module.name, module.file, statement)}.{alias.name}"
    raise Unreadable
