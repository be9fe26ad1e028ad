"""Delimited text: CSV, TSV and their kin, in whatever dialect."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow

from cliplab.data.tables.columns import typed
from cliplab.data.tables.delimited import SEPARATORS, read_delimited
from cliplab.data.tables.reader import ReadTable, TableReader

ROWS_AT_ONCE = 10_000
_KINDS = (".csv", ".tsv", ".tab", ".psv")


class DelimitedReader(TableReader):
    """A row for each record. Separator, encoding and header are found out, or said by ``separator`` (one character),
    ``encoding`` (a name that Python knows) and ``header`` (false: names by place, ``image`` and ``caption``). Cells are
    text as it stands there, also None, NA or 007; other columns than captions and pictures that hold numbers only are
    numbers."""

    suffixes: ClassVar[Sequence[str]] = (*_KINDS, *(f"{kind}.gz" for kind in _KINDS))
    precedence: ClassVar[int] = 40

    def __init__(
        self,
        files: Sequence[str],
        root: Path,
        *,
        image_root: str | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
    ) -> None:
        separator = {"tab": "\t", "\\t": "\t"}.get(separator or "", separator)
        if separator is not None and len(separator) != 1:
            raise ValueError(f"data.train.reader.separator {separator!r} must be one character, or tab")
        super().__init__(files, root, image_root=image_root, said=(separator, encoding, header))
        self.separator, self.encoding, self.header = separator, encoding, header

    def read(self, file: Path) -> ReadTable:
        columns, rows = read_delimited(file, separator=self.separator, encoding=self.encoding, header=self.header)
        if len(columns) == 1:
            raise ValueError(
                f"line 1: a single column, {columns[0][:60]!r}, with each of {SEPARATORS!r}; name what separates its "
                "columns: data.train.reader={separator: …}"
            )
        schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        batches, lines = [], [np.zeros(0, np.int64)]
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            lines.append(np.asarray([line for line, _ in some], np.int64))
            cells = zip(*(cells for _, cells in some), strict=True)
            batches.append(pyarrow.record_batch([pyarrow.array(cell, pyarrow.string()) for cell in cells], schema))
        table = pyarrow.Table.from_batches(batches, schema)
        numbers = {name: typed(name, table.column(name)) for name in columns}
        return ReadTable(pyarrow.table(numbers), np.concatenate(lines))


READER = DelimitedReader
