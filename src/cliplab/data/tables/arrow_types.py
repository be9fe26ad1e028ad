"""Finds one type for a column that has several types in several files, such as text and numbers, or lists and text."""

from collections.abc import Sequence

import pyarrow
import pyarrow.types as kinds

from cliplab.data.tables.names import is_caption_name
from cliplab.data.tar.captions import texts_in

_TEXTS = pyarrow.list_(pyarrow.string())
# The datasets library stores an image as this
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The plain type of the same values: not large, not a dictionary, of full width."""
    if kinds.is_dictionary(kind):
        return _plain(kind.value_type)
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return pyarrow.string()
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return pyarrow.binary()
    if kinds.is_integer(kind) or kinds.is_floating(kind):
        return pyarrow.int64() if kinds.is_integer(kind) else pyarrow.float64()
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return pyarrow.list_(_plain(kind.value_type))
    if kinds.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}:
        return PICTURE
    return kind


def _is_scalar(kind: pyarrow.DataType) -> bool:
    return not kinds.is_nested(kind) and not kinds.is_binary(kind)


def _joint(name: str, plain: Sequence[pyarrow.DataType]) -> pyarrow.DataType | None:
    """One type for values of several plain types; None when there is none."""
    found = set(plain)
    if found <= {pyarrow.int64(), pyarrow.float64()}:
        return pyarrow.float64()
    if found <= {pyarrow.binary(), pyarrow.string(), PICTURE}:  # text beside bytes is a path
        return PICTURE if PICTURE in found or not is_caption_name(name) else pyarrow.string()
    if all(map(_is_scalar, found)):
        return pyarrow.string()
    lists = {kind for kind in found if kinds.is_list(kind)}
    if lists and all(kind in lists or kind == pyarrow.string() or _is_scalar(kind) for kind in found):
        return _TEXTS if all(_is_scalar(kind.value_type) for kind in lists) else None
    return None


def common_type(name: str, found: Sequence[pyarrow.DataType]) -> pyarrow.DataType | None:
    """One type for a column with values of all these types; None when there is none. Numbers in a caption column become
    text."""
    given = list(dict.fromkeys(kind for kind in found if not kinds.is_null(kind)))
    if not given:
        return pyarrow.string()
    plain = list(dict.fromkeys(map(_plain, given)))
    joint = plain[0] if len(plain) == 1 else _joint(name, plain)
    if joint in (pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()) and is_caption_name(name):
        return pyarrow.string()
    return given[0] if len(given) == 1 else joint


def converted(column: pyarrow.ChunkedArray | pyarrow.Array, kind: pyarrow.DataType) -> pyarrow.Array:
    """The values of a column as the type that ``common_type`` gave for it."""
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks else pyarrow.array([], column.type)
    if column.type == kind:
        return column
    if kind == _TEXTS:
        return pyarrow.array([None if v is None else texts_in(v) for v in column.to_pylist()], _TEXTS)
    if kind == PICTURE:
        return pyarrow.array([_picture(value) for value in column.to_pylist()], PICTURE)
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind == pyarrow.string() and kinds.is_binary(column.type):
        return pyarrow.array([v and v.decode("utf8", errors="replace") for v in column.to_pylist()], kind)
    if kind == pyarrow.string() and not kinds.is_null(column.type) and not kinds.is_large_string(column.type):
        return pyarrow.array([None if v is None else str(v) for v in column.to_pylist()], kind)
    return column.cast(kind)


def _picture(value: object) -> object:
    """An image as the datasets library stores it: its bytes, or its path."""
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    return {"bytes": None, "path": value} if isinstance(value, str) else value
