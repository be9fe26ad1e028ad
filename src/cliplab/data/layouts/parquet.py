"""Local Parquet, streamed row group by row group: little is read at the start and little is kept in memory.

The reader of the datasets library keeps whole files in memory, one for each part of a stream in each worker.
"""

import bisect
import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from cliplab.data.cache import cache_root, cached_file
from cliplab.data.cells import to_rows
from cliplab.data.layout import Part, Row
from cliplab.data.local import NO_ROWS, fingerprint_of_files, name_within, refuse_empty, refuse_options
from cliplab.data.tables.arrow_types import PICTURE, common_type, converted

ROWS_AT_ONCE = 64


@functools.lru_cache(maxsize=64)
def _metadata(file: str, size: int, changed: int) -> pyarrow.parquet.FileMetaData:
    return pyarrow.parquet.read_metadata(file)


def _opened(file: str) -> pyarrow.parquet.ParquetFile:
    """A new reader, since readers are not safe among threads. The metadata at the file's end are cached."""
    facts = os.stat(file)
    known = _metadata(file, facts.st_size, facts.st_mtime_ns)
    return pyarrow.parquet.ParquetFile(file, memory_map=True, metadata=known)


class ParquetReader:
    """Rows of Parquet files, images as bytes.

    Each row group is a part, so even a single file can be divided among workers and shuffled. Opening reads only the
    metadata at the ends of the files. A column that has several types in several files gets one type that holds them all.
    Raises ValueError when there is no such type, or when files have different columns.
    """

    suffixes = (".parquet",)
    precedence = 20
    damaged: Sequence[tuple[str, str]] = ()

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        refuse_options(options, "Parquet")
        refuse_empty(files, root)
        self.files, self.root = files, root
        self.parts: list[Part] = []
        self.groups: list[tuple[str, int, int]] = []  # for each part: file, row group, first row within the file
        schemas: dict[str, pyarrow.Schema] = {}
        counts = [self._add(file, schemas) for file in files]
        self.starts = list(
            itertools.accumulate(counts, initial=0)
        )  # for each file: the number of its first row among all
        # Files without rows are ignored: their types, and sometimes their columns, are unknown.
        self.schemas = {file: schemas[file] for file, count in zip(files, counts, strict=True) if count} or schemas
        self.columns = list(next(iter(self.schemas.values())).names)
        self.other_case: set[str] = set()  # files whose columns have the first file's names in other capitals
        self.kinds = self._kinds()

    def _add(self, file: str, schemas: dict[str, pyarrow.Schema]) -> int:
        """Add the row groups of a file as parts. Returns the number of rows."""
        try:
            opened = _opened(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file} is not a complete Parquet file: {error}") from error
        with opened:
            schemas[file], metadata = opened.schema_arrow, opened.metadata
        first = 0
        for group in range(metadata.num_row_groups):
            if not (rows := metadata.row_group(group).num_rows):
                continue
            self.parts.append(Part(f"{name_within(file, self.root)} row group {group}", rows))
            self.groups.append((file, group, first))
            first += rows
        return first

    def _kinds(self) -> dict[str, pyarrow.DataType]:
        """The type of each column that holds the types of all files."""
        (first, schema), *others = self.schemas.items()
        for file, other in others:
            if set(other.names) == set(schema.names):
                continue
            known = {name.lower(): name for name in schema.names}
            if len(known) == len(other.names) and {name.lower() for name in other.names} == set(known):
                self.schemas[file] = pyarrow.schema([one.with_name(known[one.name.lower()]) for one in other])
                self.other_case.add(file)
            else:
                raise ValueError(
                    f"{file} has the columns {other.names}, but {first} has {schema.names}; read them separately"
                )
        found = {}
        for name in self.columns:
            given = {file: one.field(name).type for file, one in self.schemas.items()}
            kind = common_type(name, [*given.values()])
            if kind is None:
                file = next(file for file in given if given[file] != given[first])
                raise ValueError(
                    f"{file}: column {name!r} is {given[file]}, but in {first} it is {given[first]}; read them separately: "
                    "data.train.data_files=[…]"
                )
            found[name] = kind
        return found

    def _differs(self, file: str) -> bool:
        changed = any(self.schemas[file].field(name).type != kind for name, kind in self.kinds.items())
        return changed or file in self.other_case

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files(self.files, self.root)

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        file, group, first = self.groups[part]
        number, name, differs = 0, name_within(file, self.root), self._differs(file)
        with _opened(file) as reader:
            for batch in reader.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                if number + len(batch) > start:
                    wanted = batch.slice(max(0, start - number))
                    begin = first + max(start, number)
                    for row, values in enumerate(to_rows(self._fitted(wanted) if differs else wanted), begin):
                        yield Row(values, f"{name} row {row}")
                number += len(batch)

    def _fitted(self, batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        place = {name.lower(): number for number, name in enumerate(batch.schema.names)} if self.other_case else {}
        columns = [batch.column(place.get(name.lower(), name)) for name in self.kinds]
        arrays = [converted(column, kind) for column, kind in zip(columns, self.kinds.values(), strict=True)]
        return pyarrow.record_batch(arrays, pyarrow.schema([*self.kinds.items()]))

    def dataset(self, split: str) -> datasets.Dataset:
        if not self.parts:
            raise ValueError(f"{self.root.name} {NO_ROWS}")
        if not any(map(self._differs, self.schemas)):
            return datasets.load_dataset("parquet", data_files={split: [*self.schemas]}, split=split)
        features = datasets.Features.from_arrow_schema(pyarrow.schema([*self.kinds.items()]))
        pictures = {name: datasets.Image(decode=False) for name, kind in self.kinds.items() if kind == PICTURE}
        files = [self._converted_file(file) if self._needs_more_than_a_cast(file) else file for file in self.schemas]
        features = datasets.Features({**features, **pictures})
        return datasets.load_dataset("parquet", data_files={split: files}, split=split, features=features)

    def _needs_more_than_a_cast(self, file: str) -> bool:
        """Whether the datasets library cannot convert the file's types. It can convert to text, wider numbers and images."""
        schema = self.schemas[file]
        if file in self.other_case:
            return True
        lists = [name for name, kind in self.kinds.items() if pyarrow.types.is_list(kind)]
        return any(schema.field(name).type != self.kinds[name] for name in lists)

    def _converted_file(self, file: str) -> str:
        """A copy of the file with the common types, in the cache folder."""
        facts = os.stat(file)
        known = f"{os.path.abspath(file)} {facts.st_size} {facts.st_mtime_ns} {self.kinds}"
        kept = cache_root() / "parquet" / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.parquet"
        if not kept.is_file():
            with cached_file(kept) as target, _opened(file) as reader:
                schema = pyarrow.schema([*self.kinds.items()])
                with pyarrow.parquet.ParquetWriter(target, schema, write_statistics=False) as writer:
                    for batch in reader.iter_batches(ROWS_AT_ONCE):
                        writer.write_batch(self._fitted(batch))
        return str(kept)

    def place(self, number: int) -> str:
        file = bisect.bisect_right(self.starts, number) - 1
        return f"{name_within(self.files[file], self.root)} row {number - self.starts[file]}"


READER = ParquetReader
