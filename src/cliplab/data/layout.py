"""The interface of a data set: parts, rows with a place that a person can find, and a fingerprint.

A new layout is one file in ``layouts/`` with one class, assigned to ``READER``. No other file refers to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import datasets

from cliplab.text import listed


class Row(NamedTuple):
    """The values of one row by column, and its place: ``shard-00003.tar: 000123``, ``pairs.csv line 17``,
    ``part-0.parquet row 1203``. Rows count from 0 as in pandas, lines of text from 1 as in an editor."""

    values: Mapping[str, Any]
    place: str


class Unusable(NamedTuple):
    """A row that cannot be used: a short code to count by, and the place of the row."""

    reason: str
    place: str

    def within(self, source: str) -> "Unusable":
        """The same row, with the name of its source in a mixture."""
        return self._replace(place=f"{source} {self.place}")


def damaged_note(damaged: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence about rows or files that an evaluation leaves out, as (reason, place); none without them. A damaged file
    is named once, however many rows are lost with it."""
    places = list(dict.fromkeys(f"{place} ({reason})" for reason, place in damaged))
    return [f"{len(damaged)} rows or files are damaged and left out: {listed(places, most=5)}"] if damaged else []


class Part(NamedTuple):
    """A unit that is read from start to end: a tar, a row group, a table. ``rows`` is None when the number is unknown."""

    name: str
    rows: int | None = None


class DataError(RuntimeError):
    """Data that a run cannot go on with. The message is for the person who brought them."""


class DamagedPart(ValueError):
    """The remainder of a part cannot be read. ``place`` names the file and ``reason`` is a short code to count by. Reading
    continues with the next part, and the file counts as ``lost`` unusable rows: about as many as cannot be read."""

    def __init__(self, place: str, reason: str, detail: str = "", lost: int = 1) -> None:
        super().__init__(f"{place}: {reason}: {detail}" if detail else f"{place}: {reason}")
        self.place, self.reason, self.lost = place, reason, lost


class Layout(Protocol):
    """A data set that is read part by part, as a stream.

    ``columns`` are the columns that rows may have; a row may lack some. ``fingerprint`` changes with the content, and does
    not depend on the folder of the files.
    """

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def parts(self) -> Sequence[Part]: ...

    @property
    def fingerprint(self) -> str: ...

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        """The rows of a part in order, from row ``start`` of it on. Raises DamagedPart where its file is cut short."""
        ...


class Reader(Layout, Protocol):
    """A layout of local files that can also be read by row.

    ``dataset(split)`` gives all rows, in the order of the parts, as a data set of the datasets library; ``split`` only names
    it in the library's cache. ``place(number)`` is the place of its row ``number``. ``damaged`` are (place, reason) of the
    rows that are left out. An image in a cell is anything that ``images.decode_image`` reads: bytes, a path,
    ``{"bytes", "path"}``, or ``{"path", "offset", "size"}`` for one inside a larger file.
    """

    suffixes: ClassVar[Sequence[str]]  # lower case, with the dot; the longest that fits wins, as .tar.gz
    precedence: ClassVar[
        int
    ]  # in a folder of several layouts the smallest is read; tars 0, Parquet 20, Arrow 30, tables 40

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        """``files`` are sorted. ``root`` is the path that the user gave, a folder or a single file. ``options`` come from
        ``data.train.reader``. Raises ValueError naming a file and its fault, or a wrong option."""

    @property
    def damaged(self) -> Sequence[tuple[str, str]]: ...

    def dataset(self, split: str) -> datasets.Dataset: ...

    def place(self, number: int) -> str: ...
