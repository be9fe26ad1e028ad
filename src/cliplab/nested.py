"""Configs as nested mappings."""

from collections.abc import Mapping
from typing import Any


def flat(node: Any, place: str = "") -> dict[str, Any]:
    """The plain values of a config by their dotted keys; lists stay as they are."""
    if not isinstance(node, Mapping):
        return {place: node}
    inner = ((f"{place}.{key}" if place else str(key), value) for key, value in node.items())
    return {key: value for name, child in inner for key, value in flat(child, name).items()}
