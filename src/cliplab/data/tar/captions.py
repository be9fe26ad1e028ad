"""The captions among the texts of a sample: a text beside the picture, or a field of JSON."""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Names of members and of JSON fields, in the order in which they are looked for; capital letters do not matter.
CAPTION_NAMES: tuple[str, ...] = (
    *("txt", "text", "caption", "captions", "transcript", "alt_text", "alt", "title", "sentences", "sentence"),
    *("texts", "description", "prompt", "raw"),
)
_TEXT_ENDS = ("txt", "text", "caption", "captions", "transcript")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decoded(data: bytes) -> str:
    """Text from UTF-8, or as a byte order mark at its start says; what cannot be read becomes the replacement character."""
    encoding = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), "utf8")
    return data.decode(encoding, errors="replace")


def texts_in(value: Any) -> list[str]:
    """Captions in a value of JSON: a text or number, a list of such, or an object with a usual field."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, Mapping):
        return _field(value, CAPTION_NAMES) or []
    return [text for one in value for text in texts_in(one)]


def _field(value: Any, names: Sequence[str]) -> list[str] | None:
    """The captions in the first of ``names`` that an object has; a dotted name reaches into it. None when it has none."""
    if not isinstance(value, Mapping):
        return None
    by_name = {str(key).lower(): inner for key, inner in value.items()}
    for name in map(str.lower, names):
        inner: Any = by_name.get(name)
        if inner is None and "." in name:
            first, _, further = name.partition(".")
            found = _field(by_name.get(first), [further])
        else:
            found = texts_in(inner)
        if found:
            return found
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _of_members(texts: Mapping[str, str], names: Sequence[str]) -> Iterator[list[str]]:
    yield from ([texts[name]] for name in map(str.lower, names) if name in texts)


def _of_json(texts: Mapping[str, str], names: Sequence[str]) -> Iterator[list[str]]:
    """Of each document the field that has one of ``names``; a list or a text without fields is captions itself."""
    for suffix, text in texts.items():
        if suffix.endswith(("json", "jsn")):
            document = _parsed(text)
            yield (texts_in(document) if isinstance(document, str | list) else _field(document, names)) or []


def _candidates(texts: Mapping[str, str], wanted: Sequence[str]) -> Iterator[list[str]]:
    for names in (wanted, CAPTION_NAMES) if wanted else (CAPTION_NAMES,):
        yield from _of_members(texts, names)
        yield from _of_json(texts, names)
    yield [text for suffix, text in texts.items() if suffix.rsplit(".", 1)[-1] in _TEXT_ENDS]


def captions_in(texts: Mapping[str, str | None], wanted: Sequence[str] = ()) -> list[str] | None:
    """The captions of a sample from its texts by suffix (``txt``, ``json``, ``en.txt``): those that ``wanted`` names, else
    by the usual names, else of any member that ends as a text does. A blank one gives way to one that is not; None when
    there is nothing."""
    blank = None
    for captions in _candidates({suffix: text for suffix, text in texts.items() if text is not None}, wanted):
        if any(text.strip() for text in captions):
            return captions
        blank = blank or captions or None
    return blank
