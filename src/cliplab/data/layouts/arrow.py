"""Arrow files, as ``save_to_disk`` and ``pyarrow.ipc`` write them."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from cliplab.data.cells import to_rows
from cliplab.data.layout import Part, Row
from cliplab.data.local import fingerprint_of_files, name_within, refuse_empty, refuse_options


def _batches(source: pyarrow.MemoryMappedFile) -> Iterator[pyarrow.RecordBatch]:
    """The record batches of a file in either of Arrow's formats, stream or file."""
    try:
        yield from pyarrow.ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        reader = pyarrow.ipc.open_file(source)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


class ArrowReader:
    """Rows of Arrow files. Each file is a part."""

    suffixes = (".arrow",)
    precedence = 30
    damaged: Sequence[tuple[str, str]] = ()

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        refuse_options(options, "Arrow")
        refuse_empty(files, root)
        self.files, self.root = files, root
        self.parts = [Part(name_within(file, root)) for file in files]

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with pyarrow.memory_map(self.files[0]) as source:
            try:
                return pyarrow.ipc.open_stream(source).schema.names
            except pyarrow.ArrowInvalid:
                return pyarrow.ipc.open_file(source).schema.names

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files(self.files, self.root)

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        number = 0
        with pyarrow.memory_map(self.files[part]) as source:
            for batch in _batches(source):
                if number + len(batch) > start:
                    begin = max(start, number)
                    for row, values in enumerate(to_rows(batch.slice(begin - number)), begin):
                        yield Row(values, f"{self.parts[part].name} row {row}")
                number += len(batch)

    def dataset(self, split: str) -> datasets.Dataset:
        return datasets.load_dataset("arrow", data_files={split: [*self.files]}, split=split)

    @functools.cached_property
    def _starts(self) -> list[int]:
        counts = []
        for file in self.files:
            with pyarrow.memory_map(file) as source:
                counts.append(sum(len(batch) for batch in _batches(source)))
        return list(itertools.accumulate(counts, initial=0))

    def place(self, number: int) -> str:
        file = next(i for i in range(len(self.files)) if number < self._starts[i + 1])
        return f"{self.parts[file].name} row {number - self._starts[file]}"


READER = ArrowReader
