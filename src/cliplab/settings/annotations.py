"""Check a plain value of a config against an annotation, and say what is wrong with it.

This understands numbers, strings, lists and mappings of them, ``Literal``, unions, and ``Annotated`` with the bounds of
``annotated_types``. Any other class accepts every value that is not a scalar.
"""

import difflib
import inspect
import pathlib
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from cliplab.rules import Begins

LISTS = (list, tuple, set, frozenset, Sequence, Iterable, Collection)
MAPPINGS = (dict, Mapping)
BOUNDS = {Ge: ("ge", "{} or more"), Gt: ("gt", "above {}"), Le: ("le", "up to {}"), Lt: ("lt", "below {}")}


def problem(value: Any, wanted: Any, taker: str = "") -> str | None:
    """What is wrong with a value, to be written after its key; None when it fits. ``taker`` is the class that takes it."""
    if fits(value, wanted):
        return None
    bounds, choices = _bounds(wanted), _choices(wanted)
    if bounds:
        words = ", or ".join([*bounds, *map(str, choices)])
        wrong_type = not _numeric(value) or _has_wrong_type(value, wanted)
        wrong = f"is not {with_article(type_words(wanted))}; it " if wrong_type else ""
        return f"{value!r} {wrong}must be {words}{_integer_hint(value, wanted)}"
    if choices and (isinstance(value, str) or len(_options(wanted)) == 1):
        close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{value!r} is not a choice; {hint}the choices are {', '.join(dict.fromkeys(map(str, choices)))}"
    asked = f", which {taker} asks for" if taker else ""
    return f"{value!r} is not {with_article(type_words(wanted))}{asked}{_integer_hint(value, wanted)}"


def _integer_hint(value: Any, wanted: Any) -> str:
    """How to write a whole number, such as ``1e3`` or ``1000.0``, as an integer where one is wanted; "" otherwise."""
    whole = isinstance(value, float) and value.is_integer() and fits(int(value), wanted)
    return f"; write {int(value)}" if whole else ""


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value fits an annotation. An annotation that this does not understand accepts everything."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return fits(value, arguments[0]) and all(_keeps_bound(value, bound) for bound in arguments[1:])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in arguments)
    if wanted is type(None) or wanted is None:
        return value is None
    if origin in LISTS or wanted in LISTS:
        return isinstance(value, list) and _elements_fit(value, origin or wanted, arguments)
    if origin in MAPPINGS or wanted in MAPPINGS:
        return isinstance(value, dict) and (len(arguments) < 2 or all(fits(x, arguments[1]) for x in value.values()))
    return _fits_class(value, wanted)


def _fits_class(value: Any, wanted: Any) -> bool:
    if wanted is bool:
        return isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is str or (inspect.isclass(wanted) and issubclass(wanted, pathlib.PurePath)):
        return isinstance(value, str)
    if wanted is Any or wanted is object or not inspect.isclass(wanted):
        return True
    return value is not None and not isinstance(value, str | int | float)  # another class is no plain value


def _elements_fit(value: list[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if origin is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(fits(x, kind) for x, kind in zip(value, arguments, strict=True))
    return all(fits(element, arguments[0]) for element in value)


def _keeps_bound(value: Any, bound: Any) -> bool:
    """Whether a number keeps a bound. Any other metadata of an annotation allows everything."""
    if isinstance(bound, Ge):
        return value >= bound.ge
    if isinstance(bound, Gt):
        return value > bound.gt
    if isinstance(bound, Le):
        return value <= bound.le
    if isinstance(bound, Lt):
        return value < bound.lt
    if isinstance(bound, Begins):
        return value.startswith(bound.prefix)
    return True


def _options(wanted: Any) -> list[Any]:
    """The members of a union without None. An annotation that is not a union is its only member."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return [option for member in typing.get_args(wanted) for option in _options(member)]
    return [] if wanted in (None, type(None)) else [wanted]


def _choices(wanted: Any) -> list[Any]:
    found: list[Any] = []
    for option in _options(wanted):
        if typing.get_origin(option) is typing.Literal:
            found += typing.get_args(option)
        elif typing.get_origin(option) is typing.Annotated:
            found += [f"{rule.prefix}…" for rule in typing.get_args(option)[1:] if isinstance(rule, Begins)]
    return found


def _bounds(wanted: Any) -> list[str]:
    """The bounds of each member of a union, in words such as ``1 or more`` or ``above 0, 2 of them``."""
    return list(dict.fromkeys(words for option in _options(wanted) if (words := _bounds_of(option))))


def _bounds_of(option: Any) -> str:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is typing.Annotated:
        return _bounds_in_words(arguments[1:])
    words = ", or ".join(_bounds(arguments[0])) if origin in LISTS and arguments else ""
    exact = origin is tuple and arguments[-1] is not Ellipsis
    return f"{words}, {len(arguments)} of them" if words and exact else words


def _bounds_in_words(bounds: tuple[Any, ...]) -> str:
    limits = {kind: getattr(bound, BOUNDS[kind][0]) for bound in bounds for kind in BOUNDS if isinstance(bound, kind)}
    limits = {kind: limit for kind, limit in limits.items() if limit != inf}
    if set(limits) == {Ge, Le}:
        return f"between {limits[Ge]} and {limits[Le]}"
    return " and ".join(BOUNDS[kind][1].format(limit) for kind, limit in limits.items())


def _numeric(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)


def _has_wrong_type(value: Any, wanted: Any) -> bool:
    """Whether the type of a value is wrong, such as 2.5 where an integer is wanted."""
    return not any(fits(value, _without_bounds(option)) for option in _options(wanted))


def _without_bounds(wanted: Any) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return _without_bounds(arguments[0])
    if origin in LISTS and arguments:
        return list[_without_bounds(arguments[0])]  # type: ignore[misc]
    return wanted


def with_article(noun: str) -> str:
    """``an int``, ``a float``."""
    return f"{'an' if noun[:1] in 'aeiouAEIOU' else 'a'} {noun}"


def type_words(wanted: Any) -> str:
    """An annotation as it is written, without None and bounds: ``float | Tensor``."""
    plain = [_without_bounds(o) for o in _options(wanted) if typing.get_origin(o) is not typing.Literal]
    return " | ".join(dict.fromkeys(_name(option) for option in plain)) or str(wanted)


def _name(plain: Any) -> str:
    if typing.get_origin(plain) is None:
        return getattr(plain, "__name__", str(plain))
    return str(plain).replace("typing.", "").replace("collections.abc.", "")
