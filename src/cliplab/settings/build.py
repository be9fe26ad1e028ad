"""From a node of the config to the part it names."""

import re
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.errors import InstantiationException

from cliplab.settings.config import ConfigError, value_at

TELLING = (ValueError, ImportError, RuntimeError, OSError, NotImplementedError)  # raised with a message for people
MOST_TOLD = 160  # characters of the values beside an error that does not tell


def build(node: Any, place: str, **extra: Any) -> Any:
    """Instantiate a plain node; lists and dicts reach their target as such. ``place`` is the node's dotted key.

    Raises ConfigError for whatever is raised while the node or a part of it is built, with the key of that part.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **extra)
    except (Exception, SystemExit) as error:  # a part must not end the command
        cause, inner = _cause(error)
        raise ConfigError(_told(cause, node, place, inner)) from cause


def _cause(error: BaseException) -> tuple[BaseException, str]:
    """What was raised first, and the key below the node where Hydra met it."""
    inner = ""
    while isinstance(error, InstantiationException):
        found = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        inner = found[1] if found else inner
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error, inner


def _told(cause: BaseException, node: Any, place: str, inner: str) -> str:
    key, text = f"{place}.{inner}" if inner else place, str(cause)
    if isinstance(cause, TELLING) and text:
        names_a_key = re.search(rf"\b{re.escape(place.split('.')[0])}\.\w", text)
        return text if names_a_key else f"{key}: {text}"
    part = value_at(node, inner) if inner else node
    target = part.get("_target_", "it") if isinstance(part, Mapping) else "it"
    return f"{key}: {target} cannot be built{_values(part)}: {type(cause).__name__}: {text}".removesuffix(": ")


def _values(part: Any) -> str:
    """The plain values of a node, where they are few."""
    plain = part.items() if isinstance(part, Mapping) else ()
    told = ", ".join(f"{k}={v}" for k, v in plain if not k.startswith("_") and not isinstance(v, Mapping))
    return f" with {told}" if told and len(told) <= MOST_TOLD else ""
