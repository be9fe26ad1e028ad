"""The values stated in a file beside weights. Each is taken by name, and left-over ones are refused by name."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cliplab.files import describe_stand_in


class Stated:
    """One part of a JSON file. ``take`` and the methods like it consume a field; ``finish`` refuses those left over.

    ``null`` counts as not stated, as in the libraries that write these files. ``place`` is the dotted name of the part
    inside its file. Every method raises ValueError naming file and field.
    """

    def __init__(self, values: Mapping[str, Any], file: Path | str, place: str = "") -> None:
        self.left, self.file, self.place = dict(values), file, place

    def name(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def refusal(self, key: str, value: Any, why: str) -> ValueError:
        """The error to raise about a field."""
        return ValueError(f"{self.file}: {self.name(key)} is {value!r}; {why}")

    def take(self, key: str, default: Any = None) -> Any:
        """A field's value of any type."""
        value = self.left.pop(key, None)
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refusal(key, value, "cliplab's towers take one positive integer here")
        return value

    def side(self, key: str, default: int | None = None) -> int:
        """The length of a square: a positive integer, or the same one twice."""
        value = self.left.get(key)
        if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
            self.left[key] = value[0]
        return self.size(key, default)

    def number(self, key: str, default: float) -> float:
        value = self.take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refusal(key, value, "it must be a number")
        return float(value)

    def switch(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.refusal(key, value, "it must be true or false")
        return value

    def choice(self, key: str, names: Mapping[Any, str], default: Any, owner: str) -> str:
        """A value under our name for it; ``names`` maps the file's names to ours."""
        value = self.take(key, default)
        if isinstance(value, list | dict) or value not in names:
            raise self.refusal(key, value, f"{owner} have {', '.join(str(name) for name in names)}")
        return names[value]

    def only(self, key: str, allowed: Collection[Any], why: str) -> None:
        """Refuse a field unless it has one of the values ``allowed``, or is not stated."""
        value = self.take(key)
        if value is not None and value not in allowed:
            raise self.refusal(key, value, why)

    def part(self, key: str) -> "Stated":
        """A nested object; an empty one where it is not stated."""
        value = self.take(key, {})
        if not isinstance(value, Mapping):
            raise self.refusal(key, value, "it must be an object")
        return Stated(value, self.file, self.name(key))

    def pass_over(self, keys: Collection[str]) -> None:
        """Leave out fields that change no embedding."""
        for key in keys:
            self.left.pop(key, None)

    def finish(self) -> None:
        """Raises ValueError for the first field that was neither taken nor passed over."""
        for key, value in self.left.items():
            if value is not None:
                reason = "cliplab does not know this setting, and does not load the weights without it"
                raise self.refusal(key, value, reason)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError naming the file when it is something else, such as a Git LFS pointer."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        value = json.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = describe_stand_in(file) or str(error).splitlines()[0]
        raise ValueError(f"{file}: this is not JSON ({reason})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file}: it must be a JSON object, not a {type(value).__name__}")
    return value
