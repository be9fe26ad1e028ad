"""Read annotations from source code as objects of ``typing``."""

import ast
import builtins
import functools
import importlib
import inspect
import typing
from typing import Any

from cliplab.settings.source_code import DEEPEST, Found, Module, Unreadable, absolute, last_name, module_named, resolve

LIGHT = (
    "typing",
    "collections.abc",
    "pathlib",
    "annotated_types",
    "datetime",
    "cliplab.rules",
)  # modules that may be imported


def annotation_of(module: Module, node: ast.expr | None) -> Any:
    """The annotation as an object of ``typing``; ``Any`` when it is not understood."""
    if node is None:
        return Any
    try:
        return _evaluated(module, node, 0)
    except Exception:
        return Any


def _evaluated(module: Module, node: ast.expr, depth: int) -> Any:
    if depth > DEEPEST:
        raise Unreadable
    deeper = functools.partial(_evaluated, module, depth=depth + 1)
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, str):
            return node.value
        return deeper(ast.parse(node.value, filename="<annotation>", mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[deeper(node.left), deeper(node.right)]  # noqa: UP007
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        return _number(node)
    if isinstance(node, ast.Subscript):
        return _subscripted(module, node, depth)
    if isinstance(node, ast.Call):
        named = {str(keyword.arg): _number(keyword.value) for keyword in node.keywords}
        return _light(module, node.func)(*map(_number, node.args), **named)
    return _of_name(module, node, depth)


def _number(node: ast.expr) -> Any:
    return ast.literal_eval(node)


def _subscripted(module: Module, node: ast.Subscript, depth: int) -> Any:
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    name = last_name(node.value)
    if name == "Literal":
        return typing.Literal[tuple(map(_number, parts))]
    if name == "Annotated":
        bounds = [_evaluated(module, part, depth + 1) for part in parts[1:]]
        return typing.Annotated[(_evaluated(module, parts[0], depth + 1), *bounds)]
    base = _evaluated(module, node.value, depth + 1)
    if inspect.isclass(base) and base.__module__ == __name__:
        return Any  # the brackets of a class of arrays hold no types
    inside = tuple(annotation_of(module, part) for part in parts)
    return base[inside if len(inside) > 1 else inside[0]]


def _of_name(module: Module, node: ast.expr, depth: int) -> Any:
    """A built-in or light type itself, a stand-in for any other class, and for an alias the type that it names."""
    if isinstance(node, ast.Name) and node.id not in module.body and hasattr(builtins, node.id):
        return getattr(builtins, node.id)
    try:
        return _light(module, node)
    except Unreadable:
        pass
    found = resolve(module, node)
    if isinstance(found.node, ast.ClassDef):
        return _stand_in(found)
    if isinstance(found.node, ast.Assign | ast.AnnAssign) and found.node.value is not None:
        return _evaluated(found.module, found.node.value, depth + 1)
    raise Unreadable


def _stand_in(found: Found) -> Any:
    """A class of the same name for a class that no plain value has; ``Any`` for a class that a scalar may have."""
    node = found.node
    bases = {last_name(base) for base in node.bases}  # type: ignore[attr-defined]
    scalar = {"str", "int", "float", "Enum", "StrEnum", "IntEnum", "TypedDict"}
    return Any if bases & scalar else type(node.name, (), {"__module__": "builtins"})  # type: ignore[attr-defined]


def _light(module: Module, node: ast.expr) -> Any:
    """The object, when its module may be imported."""
    if isinstance(node, ast.Attribute):
        origin, name = module_named(module, node.value), node.attr
    else:
        statement = module.body.get(node.id) if isinstance(node, ast.Name) else None
        if not isinstance(statement, ast.ImportFrom):
            raise Unreadable
        alias = next(a for a in statement.names if (a.asname or a.name) == node.id)  # type: ignore[attr-defined]
        origin, name = absolute(module.name, module.file, statement), alias.name
    if origin not in LIGHT:
        raise Unreadable
    return getattr(importlib.import_module(origin), name)
