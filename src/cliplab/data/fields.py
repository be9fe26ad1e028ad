"""Functions that take one settings object and are called with its fields."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def takes_fields(settings: Callable[P, S]) -> Callable[[Callable[[S], T]], Callable[P, T]]:
    """Decorate a function of one dataclass so that it is called with the fields of the dataclass as keywords.

    A config names such a function as a ``_target_``. The keys of its node stay flat, as users type them, and the function
    still gets one object. ``settings.signatures`` reads the keys from the dataclass.
    """

    def decorate(function: Callable[[S], T]) -> Callable[P, T]:
        @functools.wraps(function)
        def called_with_fields(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(settings(*args, **kwargs))

        signature = inspect.signature(settings)
        called_with_fields.__signature__ = signature  # type: ignore[attr-defined]
        called_with_fields.__annotations__ = {key: field.annotation for key, field in signature.parameters.items()}
        return called_with_fields

    return decorate
