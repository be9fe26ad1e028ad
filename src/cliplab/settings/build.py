"""Build the object that a node of the config describes."""

import re
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.errors import InstantiationException

from cliplab.settings.config import ConfigError, value_at

WITH_MESSAGE = (ValueError, ImportError, RuntimeError, OSError, NotImplementedError)  # raised with a message for users
MOST_CHARACTERS = 160  # of the values that are printed beside any other error


def build(node: Any, place: str, **extra: Any) -> Any:
    """Instantiate a plain node. Its lists and dicts are passed on as plain lists and dicts. ``place`` is its dotted key.

    Raises ConfigError with the key of the part that could not be built, whatever that part raised.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **extra)
    except (Exception, SystemExit) as error:  # a part must not end the command
        cause, inner = _cause(error)
        raise ConfigError(_message(cause, node, place, inner)) from cause


def _cause(error: BaseException) -> tuple[BaseException, str]:
    """The error that was raised first, and the key below the node at which Hydra met it."""
    inner = ""
    while isinstance(error, InstantiationException):
        found = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        inner = found[1] if found else inner
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error, inner


def _message(cause: BaseException, node: Any, place: str, inner: str) -> str:
    key, text = f"{place}.{inner}" if inner else place, str(cause)
    if isinstance(cause, WITH_MESSAGE) and text:
        names_a_key = re.search(rf"\b{re.escape(place.split('.')[0])}\.\w", text)
        return text if names_a_key else f"{key}: {text}"
    part = value_at(node, inner) if inner else node
    target = part.get("_target_", "it") if isinstance(part, Mapping) else "it"
    return f"{key}: {target} cannot be built{_plain_values(part)}: {type(cause).__name__}: {text}".removesuffix(": ")


def _plain_values(part: Any) -> str:
    """The plain values of a node, when they are few enough to print."""
    plain = part.items() if isinstance(part, Mapping) else ()
    values = ", ".join(f"{k}={v}" for k, v in plain if not k.startswith("_") and not isinstance(v, Mapping))
    return f" with {values}" if values and len(values) <= MOST_CHARACTERS else ""
