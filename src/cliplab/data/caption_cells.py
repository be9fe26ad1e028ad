"""Reads the captions in a cell of a table."""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from cliplab.data.columns import CAPTION_COLUMNS
from cliplab.data.images import BadImage
from cliplab.rules import Begins

CaptionFormat = Literal["lines", "text"] | Annotated[str, Begins("json:")]
MOST_CHARACTERS = 10_000  # of a caption; no tower reads that many, and cleaning megabytes takes seconds


def _plain(value: Any) -> str:
    """The text of a cell. Raises BadImage when it is not text."""
    if isinstance(value, bytes):
        value = value[: 4 * MOST_CHARACTERS].decode("utf8", errors="replace")
    if not isinstance(value, str):
        raise BadImage("caption_not_text", type(value).__name__)
    return value[:MOST_CHARACTERS].strip()


def _whole(value: Any) -> list[str]:
    """A string or a list of strings, where each string is a caption."""
    if value is None:
        return []
    if isinstance(value, str | bytes):
        return [_plain(value)]
    if isinstance(value, dict):
        return _whole(next((value[c] for c in ("raw", *CAPTION_COLUMNS) if value.get(c) is not None), None))
    if isinstance(value, Sequence | np.ndarray):
        return [text for v in value for text in _whole(v)]
    raise BadImage("caption_not_text", type(value).__name__)


def _lines(value: Any) -> list[str]:
    """A string or a list of strings, where each line is a caption."""
    return [line.strip() for text in _whole(value) for line in text.split("\n")]


def _walk(value: Any, path: Sequence[str]) -> list[Any]:
    """The values at a path into nested lists and dictionaries.

    ``*`` means every item; ``<field>:<value>`` keeps a dictionary whose field has that value.
    """
    if not path:
        return [value]
    if path[0] == "*":
        return [found for item in (value if isinstance(value, list) else []) for found in _walk(item, path[1:])]
    if isinstance(value, list) and path[0].isdigit():
        return _walk(value[int(path[0])], path[1:]) if int(path[0]) < len(value) else []
    if not isinstance(value, dict):
        return []
    if path[0] in value:
        return _walk(value[path[0]], path[1:])
    field, colon, wanted = path[0].partition(":")
    return _walk(value, path[1:]) if colon and str(value.get(field)) == wanted else []


def _from_json(path: Sequence[str], value: Any) -> list[str]:
    """The captions at a path into JSON text, or into values that are parsed already."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadImage("caption_not_json", str(error)[:80]) from error
    return [text for found in _walk(value, path) for text in _whole(found)]


def caption_reader(caption_format: str) -> Callable[[Any], list[str]]:
    """A function from a cell to its captions. ``lines`` reads a string with a caption on each line, or a list of those;
    ``text`` a string or list of strings, each a caption; ``json:<path>``, such as ``json:sentences.*.raw``, reads JSON. Of
    a conversation in LLaVA's form, ``json:*.from:gpt.value`` reads what the model is to say.
    Raises ValueError for other formats."""
    if caption_format.startswith("json:") and caption_format != "json:":
        return functools.partial(_from_json, caption_format.removeprefix("json:").split("."))
    readers = {"lines": _lines, "text": _whole}
    if caption_format not in readers:
        raise ValueError(
            f"data.train.caption_format {caption_format!r} must be lines, text or json:<path>, such as json:sentences.*.raw"
        )
    return readers[caption_format]


def captions_of(value: Any, read: Callable[[Any], list[str]] = _lines) -> list[str]:
    """All captions in a cell. Raises BadImage with reason ``no_caption``, ``empty_caption``, ``caption_not_text`` or
    ``caption_not_json``."""
    found = read(value)
    if not any(found):
        raise BadImage("empty_caption" if found else "no_caption")
    return [text for text in found if text]
