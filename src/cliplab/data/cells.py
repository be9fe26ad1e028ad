"""Cells of Arrow tables as Python values, even where a string is not valid UTF-8."""

from typing import Any

import pyarrow


def _readable(column: Any) -> list[Any]:
    """Values of a column. Bytes that are not UTF-8, in a string or a list of strings, become the replacement character."""
    kind = column.type
    if pyarrow.types.is_list(kind) and pyarrow.types.is_string(kind.value_type):
        lists = column.cast(pyarrow.list_(pyarrow.binary())).to_pylist()
        return [texts and [text and text.decode("utf8", errors="replace") for text in texts] for texts in lists]
    if not pyarrow.types.is_string(kind):
        return column.to_pylist()
    return [text and text.decode("utf8", errors="replace") for text in column.cast(pyarrow.binary()).to_pylist()]


def to_columns(table: Any) -> dict[str, list[Any]]:
    """The columns of a table or record batch as Python values. Bytes that are not UTF-8 become replacement characters."""
    try:
        return table.to_pydict()
    except UnicodeDecodeError:
        return {name: _readable(table.column(name)) for name in table.schema.names}


def to_rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a table or record batch as Python values; see ``to_columns``."""
    columns = to_columns(table)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
