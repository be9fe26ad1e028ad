"""Local Parquet as a stream: row group by row group, so that little is read at the start and little kept in memory.

The library's own reader keeps the whole of each file that it has begun, times the parts of a stream, times its workers.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import pyarrow.parquet

ROWS_AT_ONCE = 64


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
                yield from batch.to_pylist()


def stream_parquet(files: Sequence[str]) -> datasets.IterableDataset:
    """Rows of local Parquet files, pictures as bytes; every row group is a shard of its own, so that even one file can be
    dealt to workers and put in a new order. Reads nothing but the files' ends. Raises ValueError when columns differ."""
    schema = _opened(files[0]).schema_arrow.remove_metadata()
    shards: dict[str, list[Any]] = {"files": [], "row_groups": []}
    for file in files:
        names = _opened(file).schema_arrow.names
        if names != schema.names:
            raise ValueError(f"{file} has the columns {names}, but {files[0]} has {schema.names}; stream them apart")
        groups = _opened(file).metadata.num_row_groups
        shards["files"] += [file] * groups
        shards["row_groups"] += range(groups)
    features = datasets.Features.from_arrow_schema(schema)
    return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs=shards)
