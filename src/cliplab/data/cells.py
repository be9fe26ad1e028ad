"""Cells of Arrow tables as Python values, whatever stands in their strings."""

from typing import Any

import pyarrow


def _readable(column: Any) -> list[Any]:
    """Values of a column; what is no UTF-8 in a string, alone or in a list, becomes the replacement character."""
    kind = column.type
    if pyarrow.types.is_list(kind) and pyarrow.types.is_string(kind.value_type):
        lists = column.cast(pyarrow.list_(pyarrow.binary())).to_pylist()
        return [texts and [text and text.decode("utf8", errors="replace") for text in texts] for texts in lists]
    if not pyarrow.types.is_string(kind):
        return column.to_pylist()
    return [text and text.decode("utf8", errors="replace") for text in column.cast(pyarrow.binary()).to_pylist()]


def to_columns(table: Any) -> dict[str, list[Any]]:
    """The columns of a table or record batch as Python values; text that is no UTF-8 is read as far as it goes."""
    try:
        return table.to_pydict()
    except UnicodeDecodeError:
        return {name: _readable(table.column(name)) for name in table.schema.names}


def to_rows(table: Any) -> list[dict[str, Any]]:
    """The same by row."""
    columns = to_columns(table)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
