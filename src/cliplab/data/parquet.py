"""Local Parquet as a stream: row group by row group, so that little is read at the start and little kept in memory.

The library's own reader keeps the whole of each file that it has begun, times the parts of a stream, times its workers.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

ROWS_AT_ONCE = 64


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
    """Of a table or record batch, as Python values, whatever stands in its strings."""
    try:
        return table.to_pydict()
    except UnicodeDecodeError:
        return {name: _readable(table.column(name)) for name in table.schema.names}


def to_rows(table: Any) -> list[dict[str, Any]]:
    """The same by row."""
    columns = to_columns(table)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@functools.lru_cache(maxsize=64)
def _metadata(file: str, size: int, changed: int) -> pyarrow.parquet.FileMetaData:
    return pyarrow.parquet.read_metadata(file)


def _opened(file: str) -> pyarrow.parquet.ParquetFile:
    """A reader of one's own, since readers are not safe among threads; only the file's end is remembered."""
    facts = os.stat(file)
    known = _metadata(file, facts.st_size, facts.st_mtime_ns)
    return pyarrow.parquet.ParquetFile(file, memory_map=True, metadata=known)


def _rows(files: Sequence[str], row_groups: Sequence[int]) -> Iterator[dict[str, Any]]:
    for file, group in zip(files, row_groups, strict=True):
        with _opened(file) as reader:
            for batch in reader.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                yield from to_rows(batch)


def stream_parquet(files: Sequence[str]) -> datasets.IterableDataset:
    """Rows of local Parquet files, pictures as bytes; every row group is a shard of its own, so that even one file can be
    dealt to workers and put in a new order. Reads nothing but the files' ends. Raises ValueError when columns differ."""
    shards: dict[str, list[Any]] = {"files": [], "row_groups": []}
    schema: pyarrow.Schema | None = None
    for file in files:
        try:
            opened = _opened(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file} is no whole Parquet file: {error}") from error
        schema = schema or opened.schema_arrow.remove_metadata()
        names = opened.schema_arrow.names
        if set(names) != set(schema.names):
            raise ValueError(f"{file} has the columns {names}, but {files[0]} has {schema.names}; stream them apart")
        groups = opened.metadata.num_row_groups
        shards["files"] += [file] * groups
        shards["row_groups"] += range(groups)
    features = datasets.Features.from_arrow_schema(schema)
    return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs=shards)
