"""How a data set looks to those who read it: parts, rows with a place a person can find, a fingerprint.

A new layout is a file in ``layouts/`` with one class, named there as ``READER``. Nothing else has to know of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import datasets


class Row(NamedTuple):
    """The values of one row by column, and where it stands: ``shard-00003.tar: 000123``, ``pairs.csv line 17``,
    ``part-0.parquet row 1203``. Rows count from 0 as in pandas; lines of a text file count from 1 as in an editor."""

    values: Mapping[str, Any]
    place: str


class Unusable(NamedTuple):
    """A row that cannot be used: a short code to count by, and where the row stands."""

    reason: str
    place: str

    def within(self, source: str) -> "Unusable":
        """The same, with the source of a mixture told."""
        return self._replace(place=f"{source} {self.place}")


class Part(NamedTuple):
    """What is read from its start to its end: a tar, a row group, a table. ``rows`` is None when only reading tells."""

    name: str
    rows: int | None = None


class DamagedPart(ValueError):
    """The rest of a part cannot be read; ``place`` names its file and ``reason`` is a short code to count by. The reader
    goes on with the next part, and the file counts as ``lost`` unusable rows: about as many as cannot be read."""

    def __init__(self, place: str, reason: str, detail: str = "", lost: int = 1) -> None:
        super().__init__(f"{place}: {reason}{f': {detail}' if detail else ''}")
        self.place, self.reason, self.lost = place, reason, lost


class Layout(Protocol):
    """A data set that is read part by part, as a stream.

    ``columns`` are the names that rows may have; a row may lack some. ``fingerprint`` changes with the content and stays
    when the files are copied to another place.
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
    """A layout of local files. It is also read by row: ``dataset(split)`` holds all rows, in the order of the parts, as a
    data set of the datasets library; ``place(number)`` tells where its row ``number`` stands. ``damaged`` are (place,
    reason) of what had to be left out of it. ``split`` is only a name, which enters the library's cache.

    A picture in a cell is whatever ``images.decode_image`` reads: bytes, a path, ``{"bytes", "path"}``, or
    ``{"path", "offset", "size"}`` for one that lies inside a larger file.
    """

    suffixes: ClassVar[Sequence[str]]  # lower case, with the dot; the longest that fits wins, as .tar.gz
    precedence: ClassVar[
        int
    ]  # in a folder of several layouts the smallest is read; tars 0, Parquet 20, Arrow 30, tables 40

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        """``files`` are sorted; ``root`` is the path as it was given, a folder or the one file; ``options`` are what a
        config gives as ``data.train.reader``. Raises ValueError naming the file and what is wrong, or a wrong option."""

    @property
    def damaged(self) -> Sequence[tuple[str, str]]: ...

    def dataset(self, split: str) -> datasets.Dataset: ...

    def place(self, number: int) -> str: ...
