"""Read the arguments of a class or function from its source code. This takes milliseconds; importing torch takes seconds.

``read_signature("torch.optim.AdamW")`` finds the file, follows ``from … import`` to where the class is defined, and reads
its ``__init__`` or that of its first base. Annotations are understood as far as ``settings.annotations`` can use them:
numbers, words, lists, ``Literal``, unions, ``Annotated`` with bounds, and names for these. Where the source is not that
simple (an unknown decorator, an extension in C), the answer is None, and the import that follows tells instead.
"""

import ast
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hydra

from cliplab.settings.source_annotations import annotation_of
from cliplab.settings.source_code import (
    DEEPEST,
    Found,
    Module,
    NotThere,
    Unreadable,
    find,
    last_name,
    resolve,
    split_target,
)

__all__ = ["NotThere", "Parameter", "Signature", "imported_signature", "read_fields", "read_signature", "signature_of"]

TRANSPARENT = (
    "dataclass",
    "_defaults_from_env_vars",
    "cache",
    "lru_cache",
    "no_grad",
    "override",
    "final",
)  # decorators
TAKES_FIELDS = "takes_fields"  # a decorator: the function is called with the fields of the dataclass it names
EMPTY = ("object", "Protocol", "ABC", "Generic", "Module")  # base classes whose ``__init__`` takes no arguments


@dataclass(frozen=True)
class Parameter:
    """One argument: whether it must be given, and how its annotation is read when it is asked for."""

    required: bool
    read: Callable[[], Any]

    @property
    def annotation(self) -> Any:
        """An object of ``typing``; ``Any`` where the annotation is not understood."""
        return self.read()


@dataclass(frozen=True)
class Signature:
    """The arguments by name; an ``open_ended`` one takes others too. ``needs_package`` is what the class says it imports
    when it is built: a package that may not be installed."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    open_ended: bool = False
    needs_package: str | None = None


def read_signature(target: str) -> Signature | None:
    """The signature of a dotted path, without importing it; None when the source cannot be read this simply. Raises NotThere
    when there is no such package, module or name."""
    try:
        module, names = split_target(target)
        if not names:
            raise NotThere("it is a module; name a class or a function in it")
        found: Found | None = find(module, names[0], 0)
        for name in names[1:]:
            found = _member(found, name)
        return _signature(found, 0)
    except (Unreadable, SyntaxError, UnicodeDecodeError, RecursionError):
        return None


def read_fields(target: str) -> dict[str, Parameter] | None:
    """The annotated fields of a class, such as a TypedDict, from its source. Raises NotThere when there is none."""
    try:
        module, names = split_target(target)
        found = find(module, names[0], 0)
        if not isinstance(found.node, ast.ClassDef):
            return None
        return _of_fields(found.module, found.node).parameters
    except (Unreadable, SyntaxError):
        return None


def has_method(target: str, name: str) -> bool | None:
    """Whether a class or a base of it defines the method; None when its source cannot be read this simply."""
    try:
        module, names = split_target(target)
        return _defines(find(module, names[0], 0), name, 0)
    except (Unreadable, NotThere, SyntaxError, UnicodeDecodeError, LookupError):
        return None


def _defines(found: Found, name: str, depth: int) -> bool:
    node = found.node
    if not isinstance(node, ast.ClassDef) or depth > DEEPEST:
        raise Unreadable(name)
    if any(isinstance(statement, ast.FunctionDef) and statement.name == name for statement in node.body):
        return True
    bases = [base for base in node.bases if last_name(base) not in EMPTY]
    return any(_defines(resolve(found.module, base), name, depth + 1) for base in bases)


def signature_of(target: str) -> Signature:
    """The signature from the source code if possible, or else of the imported object. Raises what the import raises."""
    return read_signature(target) or imported_signature(hydra.utils.get_object(target))


def imported_signature(function: Callable[..., Any]) -> Signature:
    """The signature of an imported object."""
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except Exception:
        hints = {}
    parameters = inspect.signature(function).parameters
    return Signature(
        {
            name: Parameter(p.default is p.empty, functools.partial(hints.get, name, Any))
            for name, p in parameters.items()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        },
        any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
    )


def _member(found: Found | None, name: str) -> Found:
    """A method of a class."""
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise Unreadable(name)
    for statement in found.node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return Found(found.module, statement)
    raise Unreadable(name)


def _signature(found: Found | None, depth: int) -> Signature:
    if found is None or depth > DEEPEST:
        raise Unreadable
    node = found.node
    if isinstance(node, ast.FunctionDef):
        kinds = [_decorator(d) for d in node.decorator_list]
        if kinds == [TAKES_FIELDS]:
            (call,) = node.decorator_list
            return _signature(resolve(found.module, call.args[0]), depth + 1)  # type: ignore[attr-defined]
        return _of_function(found.module, node, method="classmethod" in kinds)
    if isinstance(node, ast.ClassDef):
        return _of_class(found.module, node, depth)
    raise Unreadable


def _of_class(module: Module, node: ast.ClassDef, depth: int) -> Signature:
    names = {s.name: s for s in node.body if isinstance(s, ast.FunctionDef)}
    decorators = [_decorator(d) for d in node.decorator_list]
    if "__new__" in names or node.keywords or any(d not in TRANSPARENT for d in decorators):
        raise Unreadable(node.name)
    if "__init__" in names:
        return replace(_of_function(module, names["__init__"], method=True), needs_package=_needed(node))
    bases = [last_name(base) for base in node.bases]
    if "dataclass" in decorators:
        return _of_dataclass(module, node, depth)
    if "NamedTuple" in bases:
        return _of_fields(module, node)
    for base, name in zip(node.bases, bases, strict=True):
        if name not in EMPTY:
            return _signature(resolve(module, base), depth + 1)
    return Signature()


def _needed(node: ast.ClassDef) -> str | None:
    """What a class says in ``needs_package = "…"``."""
    assigned = [s for s in node.body if isinstance(s, ast.Assign) and isinstance(s.value, ast.Constant)]
    named = [s.value for s in assigned if any(last_name(target) == "needs_package" for target in s.targets)]
    return str(named[-1].value) if named else None  # type: ignore[attr-defined]


def _of_function(module: Module, node: ast.FunctionDef, *, method: bool) -> Signature:
    kinds = [_decorator(d) for d in node.decorator_list]
    if any(kind not in (*TRANSPARENT, "staticmethod", "classmethod") for kind in kinds):
        raise Unreadable(node.name)
    plain = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(node.args.defaults)), *node.args.defaults]
    named = list(zip(plain, defaults, strict=True))[max(len(node.args.posonlyargs), int(method)) :]
    named += list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    parameters = {a.arg: _parameter(module, a.annotation, default) for a, default in named}
    return Signature(parameters, node.args.kwarg is not None)


def _parameter(module: Module, annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
    return Parameter(default is None, functools.partial(annotation_of, module, annotation))


def _of_fields(module: Module, node: ast.ClassDef) -> Signature:
    """Of a dataclass or named tuple: its annotated fields."""
    fields = [s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
    return Signature({last_name(s.target): _parameter(module, s.annotation, s.value) for s in fields})


def _of_dataclass(module: Module, node: ast.ClassDef, depth: int) -> Signature:
    """The fields of the bases, which must be dataclasses themselves, then those of the class."""
    parameters: dict[str, Parameter] = {}
    for base in reversed(node.bases):
        if last_name(base) in EMPTY:
            continue
        found = resolve(module, base)
        if not isinstance(found.node, ast.ClassDef) or "dataclass" not in map(_decorator, found.node.decorator_list):
            raise Unreadable(node.name)
        parameters |= _of_class(found.module, found.node, depth + 1).parameters
    return Signature({**parameters, **_of_fields(module, node).parameters})


def _decorator(node: ast.expr) -> str:
    return last_name(node.func if isinstance(node, ast.Call) else node)
