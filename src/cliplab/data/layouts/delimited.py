"""Delimited text: CSV, TSV and similar files, in any dialect."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow

from cliplab.data.tables.columns import typed
from cliplab.data.tables.delimited import NUMBER_OF_CAPTION, SEPARATORS, is_picture_path, read_delimited
from cliplab.data.tables.reader import ReadTable, TableReader

ROWS_AT_ONCE = 10_000
_KINDS = (".csv", ".tsv", ".tab", ".psv", ".token")


class DelimitedReader(TableReader):
    """Rows of delimited text, one for each record.

    Separator, encoding and header are guessed for each file, unless they are given: ``separator`` (one character),
    ``encoding`` (a name that Python knows) and ``header`` (False: the columns are named ``image`` and ``caption`` by their
    content). Cells are literal text, including None, NA or 007. Columns of numbers become numbers, except captions and
    images.
    """

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
        super().__init__(files, root, image_root=image_root, options=(separator, encoding, header))
        self.separator, self.encoding, self.header = separator, encoding, header

    def read(self, file: Path) -> ReadTable:
        columns, rows = read_delimited(file, separator=self.separator, encoding=self.encoding, header=self.header)
        if len(columns) == 1:
            raise ValueError(
                f"line 1: a single column, {columns[0][:60]!r}, with each separator of {SEPARATORS!r}; name the separator: "
                "data.train.reader={separator: …}"
            )
        rows = ((line, _without_number(cells)) for line, cells in rows)
        schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        batches, lines = [], [np.zeros(0, np.int64)]
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            lines.append(np.asarray([line for line, _ in some], np.int64))
            cells = zip(*(cells for _, cells in some), strict=True)
            batches.append(pyarrow.record_batch([pyarrow.array(cell, pyarrow.string()) for cell in cells], schema))
        table = pyarrow.Table.from_batches(batches, schema)
        numbers = {name: typed(name, table.column(name)) for name in columns}
        return ReadTable(pyarrow.table(numbers), np.concatenate(lines))


def _without_number(cells: Sequence[str | None]) -> list[str | None]:
    """The cells, where a picture's name ends in the number of its caption, as ``7.jpg#2``, with the name alone."""
    return [
        NUMBER_OF_CAPTION.sub("", cell) if cell and "#" in cell and is_picture_path(cell) else cell for cell in cells
    ]


READER = DelimitedReader
