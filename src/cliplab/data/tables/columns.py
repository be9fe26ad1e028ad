"""Converts columns of text or of JSON values to Arrow arrays. Captions stay text; columns of numbers become numbers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow
import pyarrow.compute

from cliplab.data.tables.names import is_caption_name, is_image_name
from cliplab.data.tar.captions import texts_in

_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"  # no leading zeros: 007 is a name
_DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_TRUTH = r"^(true|false|True|False|TRUE|FALSE)$"
_PATH_KEYS = ("path", "file_name", "filename", "file", "url")


def _all(texts: pyarrow.ChunkedArray, pattern: str) -> bool:
    return bool(pyarrow.compute.all(pyarrow.compute.match_substring_regex(texts, pattern)).as_py())


def typed(name: str, texts: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """A column of text as numbers or booleans, when every cell that is not empty is one. Captions and images stay text."""
    if is_caption_name(name) or is_image_name(name):
        return texts
    filled = texts.filter(pyarrow.compute.not_equal(texts, ""))
    if not len(filled):
        return texts
    kinds = ((_WHOLE, pyarrow.int64()), (_DECIMAL, pyarrow.float64()), (_TRUTH, pyarrow.bool_()))
    kind = next((kind for pattern, kind in kinds if _all(filled, pattern)), None)
    if kind is None:
        return texts
    nothing = pyarrow.scalar(None, pyarrow.string())
    return pyarrow.compute.if_else(pyarrow.compute.equal(texts, ""), nothing, texts).cast(kind)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _captions(values: Sequence[Any]) -> pyarrow.Array:
    values = [None if value != value else value for value in values]  # NaN, which pandas writes where nothing was
    if all(value is None or isinstance(value, str | int | float) for value in values):
        return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())
    found = [None if value is None else texts_in(value) for value in values]
    return pyarrow.array(found, pyarrow.list_(pyarrow.string()))


def _path(value: Any) -> Any:
    """The path in an object that describes an image."""
    if isinstance(value, Mapping):
        return next((value[key] for key in _PATH_KEYS if isinstance(value.get(key), str)), value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def from_json(name: str, values: Sequence[Any]) -> pyarrow.Array:
    """A column of JSON values. Captions become text, or lists of text. Values that are nested or of several types become
    JSON text, except those that are text already."""
    if is_caption_name(name):
        return _captions(values)
    if is_image_name(name):
        values = [_path(value) for value in values]
    held = [value for value in values if value is not None]
    kinds = {type(value) for value in held}
    if kinds and (kinds <= {int, float} or kinds == {bool}):
        kind = pyarrow.bool_() if kinds == {bool} else pyarrow.int64() if kinds == {int} else pyarrow.float64()
        try:
            return pyarrow.array(values, kind)
        except (OverflowError, pyarrow.ArrowInvalid):
            pass
    return pyarrow.array([_text(value) for value in values], pyarrow.string())
