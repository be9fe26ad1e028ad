"""Local Parquet, as a stream row group by row group: little is read at the start and little kept in memory.

The library's own reader keeps the whole of each file that it has begun, times the parts of a stream, times its workers.
"""

import bisect
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from cliplab.data.cells import to_rows
from cliplab.data.layout import Part, Row
from cliplab.data.local import fingerprint_of_files, name_within, refuse_empty, refuse_options

ROWS_AT_ONCE = 64


@functools.lru_cache(maxsize=64)
def _metadata(file: str, size: int, changed: int) -> pyarrow.parquet.FileMetaData:
    return pyarrow.parquet.read_metadata(file)


def _opened(file: str) -> pyarrow.parquet.ParquetFile:
    """A reader of one's own, since readers are not safe among threads; only the file's end is remembered."""
    facts = os.stat(file)
    known = _metadata(file, facts.st_size, facts.st_mtime_ns)
    return pyarrow.parquet.ParquetFile(file, memory_map=True, metadata=known)


class ParquetReader:
    """Rows of Parquet files, pictures as bytes. Every row group is a part of its own, so that even one file can be dealt to
    workers and put in a new order. Opening reads nothing but the files' ends. Raises ValueError when columns differ."""

    suffixes = (".parquet",)
    precedence = 20
    damaged: Sequence[tuple[str, str]] = ()

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        refuse_options(options, "Parquet")
        refuse_empty(files, root)
        self.files, self.root = files, root
        self.columns: list[str] = []
        self.parts: list[Part] = []
        self.groups: list[tuple[str, int, int]] = []  # of each part: file, row group, row of the file it begins at
        rows_of_files = [self._add(file) for file in files]
        self.starts = list(itertools.accumulate(rows_of_files, initial=0))  # row of the whole that a file begins at

    def _add(self, file: str) -> int:
        """The number of rows."""
        try:
            opened = _opened(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file} is no whole Parquet file: {error}") from error
        with opened:
            names, metadata = opened.schema_arrow.names, opened.metadata
        self.columns = self.columns or names
        if set(names) != set(self.columns):
            raise ValueError(f"{file} has the columns {names}, but {self.files[0]} has {self.columns}; read them apart")
        first = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            self.parts.append(Part(f"{name_within(file, self.root)} row group {group}", rows))
            self.groups.append((file, group, first))
            first += rows
        return first

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files(self.files, self.root)

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        file, group, first = self.groups[part]
        number, name = 0, name_within(file, self.root)
        with _opened(file) as reader:
            for batch in reader.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                if number + len(batch) > start:
                    wanted = batch.slice(max(0, start - number))
                    begin = first + max(start, number)
                    for row, values in enumerate(to_rows(wanted), begin):
                        yield Row(values, f"{name} row {row}")
                number += len(batch)

    def dataset(self, split: str) -> datasets.Dataset:
        return datasets.load_dataset("parquet", data_files={split: [*self.files]}, split=split)

    def place(self, number: int) -> str:
        file = bisect.bisect_right(self.starts, number) - 1
        return f"{name_within(self.files[file], self.root)} row {number - self.starts[file]}"


READER = ParquetReader
