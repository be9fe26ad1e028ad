"""Finds the captions of a sample among its texts: a text member, or a field of a JSON member."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cliplab.data.tar.samples import TEXTS

# Names of members and of JSON fields, in the order in which they are looked for; case is ignored.
CAPTION_NAMES: tuple[str, ...] = (
    *("txt", "text", "caption", "captions", "cap", "transcript", "alt_text", "alt", "title", "sentences", "sentence"),
    *("texts", "description", "prompt", "raw"),
)


def texts_in(value: Any) -> list[str]:
    """The captions in a JSON value: a text or number, a list of those, or an object with a usual field."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool) or value is None or value != value:  # NaN, which pandas writes where nothing was
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, Mapping):
        return _field(value, CAPTION_NAMES) or []
    return [text for one in value for text in texts_in(one)]


def _field(value: Any, names: Sequence[str]) -> list[str] | None:
    """The captions in the first of ``names`` that an object has, or None. A dotted name reads nested objects."""
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
    """For each JSON document the field that has one of ``names``. A document that is a list or a text is itself captions."""
    for suffix, text in texts.items():
        if suffix.endswith(("json", "jsn")):
            document = _parsed(text)
            yield (texts_in(document) if isinstance(document, str | list) else _field(document, names)) or []


def _candidates(texts: Mapping[str, str], wanted: Sequence[str]) -> Iterator[list[str]]:
    for names in (wanted, CAPTION_NAMES) if wanted else (CAPTION_NAMES,):
        yield from _of_members(texts, names)
        yield from _of_json(texts, names)
    yield [text for suffix, text in texts.items() if suffix.rsplit(".", 1)[-1] in TEXTS]


def captions_in(texts: Mapping[str, str | None], wanted: Sequence[str] = ()) -> list[str] | None:
    """The captions of a sample, given its texts by suffix (``txt``, ``json``, ``en.txt``).

    They come from the names in ``wanted``, else from the usual names, else from any member with a text extension. A blank
    text is used only when there is no other. None when there is no text.
    """
    blank = None
    for captions in _candidates({suffix: text for suffix, text in texts.items() if text is not None}, wanted):
        if any(text.strip() for text in captions):
            return captions
        blank = blank or captions or None
    return blank
