"""The base of readers of tables: all rows in one Arrow table, the place of each, and the folder of relative paths."""

import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.compute
from datasets.table import InMemoryTable

from cliplab.data.layout import Part, Row
from cliplab.data.local import fingerprint_of_files
from cliplab.data.tables.delimited import is_picture_path
from cliplab.data.tables.names import is_image_name

ROWS_AT_ONCE = 256
PICTURE_FOLDERS = ("images", "Images", "img", "pictures")  # beside a table
LOOKED_AT = 20  # paths of a file that are tried to find their folder
MOST_ENTRIES = 1000  # of a folder in which it is looked for folders


class ReadTable:
    """The rows of one file, and the place of each: in words or as a line number."""

    def __init__(self, table: pyarrow.Table, places: Sequence[str] | np.ndarray) -> None:
        self.table, self.places = table, places

    def place(self, number: int) -> str:
        place = self.places[number]
        return place if isinstance(place, str) else f"line {place}"


class TableReader:
    """Rows of tables with paths of images, relative to the table's folder, to ``image_root``, to the current folder, or to a
    folder below or beside the table's.

    A subclass reads one file. ``options`` are its own options, which the fingerprint depends on. Raises ValueError naming
    the file and its fault.
    """

    damaged: Sequence[tuple[str, str]] = ()

    def __init__(
        self, files: Sequence[str], root: Path, *, image_root: str | None = None, options: Sequence[object] = ()
    ) -> None:
        self.files, self.root, self.options = list(files), root, tuple(options)
        self.begin = root if root.is_dir() else root.parent  # the folder of paths that need no other
        self.image_root = None if image_root is None else Path(image_root).expanduser()
        if self.image_root is not None and not self.image_root.is_dir():
            raise ValueError(f"data.train.reader.image_root: {image_root} is not a folder")
        self.parts = [Part(self._name(file)) for file in self.files]

    def read(self, file: Path) -> ReadTable:
        raise NotImplementedError

    def _name(self, file: str) -> str:
        return os.path.relpath(file, self.root) if self.root.is_dir() else os.path.basename(file)

    @functools.cached_property
    def _read(self) -> list[ReadTable]:
        found: list[ReadTable] = []
        spellings: dict[str, str] = {}  # by lower case: files may differ in case
        for part, file in zip(self.parts, self.files, strict=True):
            try:
                one = self.read(Path(file))
            except (ValueError, LookupError) as error:
                raise ValueError(f"{part.name}: {error}") from error
            one.table = self._rooted(
                one.table.rename_columns(_one_spelling(one.table.column_names, spellings)), Path(file)
            )
            found.append(one)
        return found

    def _rooted(self, table: pyarrow.Table, file: Path) -> pyarrow.Table:
        for place, name in enumerate(table.column_names):
            column = table.column(place)
            if not pyarrow.types.is_string(column.type):
                continue
            first = [path for path in column[:LOOKED_AT].to_pylist() if path]
            if first and (is_image_name(name) or all(map(is_picture_path, first))):
                table = table.set_column(place, name, self._with_folder(column, first, file.parent))
        return table

    def _with_folder(self, paths: pyarrow.ChunkedArray, first: Sequence[str], folder: Path) -> pyarrow.ChunkedArray:
        """Paths with the folder in which most of the ``first`` paths exist. They are unchanged when that is ``begin``."""
        if first[0].startswith("file://"):
            first = [path.removeprefix("file://") for path in first]
            paths = pyarrow.compute.replace_substring_regex(paths, "^file://", "")
        if any("\\" in path for path in first) and not any((folder / path).is_file() for path in first):
            first = [path.replace("\\", "/") for path in first]
            paths = pyarrow.compute.replace_substring(paths, "\\", "/")
        base = self._beginning(first, folder)
        if base == self.begin:
            return paths
        whole = pyarrow.compute.binary_join_element_wise(os.path.abspath(base), paths, "/")
        return pyarrow.compute.if_else(pyarrow.compute.match_substring_regex(paths, "^(/|[a-z]+://)"), paths, whole)

    def _beginning(self, first: Sequence[str], folder: Path) -> Path:
        """The folder that the paths of a table in ``folder`` begin at."""
        if self.image_root is not None:
            return self.image_root
        near = _fullest((self.begin, folder, *(folder / name for name in PICTURE_FOLDERS), Path.cwd()), first)
        if near is not None:
            return near
        sure = (
            folder.parent.is_relative_to(self.begin) or len(first) == LOOKED_AT
        )  # else few names, which others may have
        around = (*_folders_below(folder), *(_folders_below(folder.parent) if sure else ()))
        return next((one for one in around if all((one / path).is_file() for path in first)), folder)

    @functools.cached_property
    def _table(self) -> pyarrow.Table:
        """The rows of all files. Raises ValueError when there is no row."""
        tables = [one.table for one in self._read]
        for column in dict.fromkeys(name for table in tables for name in table.column_names):
            kinds = {table.schema.field(column).type for table in tables if column in table.column_names}
            if len(kinds) > 1:
                tables = [_as_text(table, column, kinds) for table in tables]
        joined = pyarrow.concat_tables(tables, promote_options="default")
        if not joined.num_rows:
            raise ValueError(f"there are no rows in {', '.join(part.name for part in self.parts[:10])}")
        return joined

    @property
    def columns(self) -> list[str]:
        return list(self._table.column_names)

    @functools.cached_property
    def _bounds(self) -> list[int]:
        return [0, *itertools.accumulate(one.table.num_rows for one in self._read)]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the names, sizes and ends of the files, and with the options that are set."""
        options = f" {self.options}" if any(option is not None for option in self.options) else ""
        return fingerprint_of_files(self.files, self.root) + options

    def _content(self) -> str:
        """A hash of the whole content of the tables, for the cache of the datasets library."""
        digest = hashlib.sha256(repr(self.options).encode())
        for part, file in zip(self.parts, self.files, strict=True):
            digest.update(part.name.encode())
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()[:16]

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        first, end = self._bounds[part], self._bounds[part + 1]
        for begin in range(first + start, end, ROWS_AT_ONCE):
            values = self._table.slice(begin, min(ROWS_AT_ONCE, end - begin)).to_pylist()
            yield from (Row(row, self.place(number)) for number, row in enumerate(values, begin))

    def dataset(self, split: str) -> datasets.Dataset:
        return datasets.Dataset(InMemoryTable(self._table), fingerprint=self._content())

    def place(self, number: int) -> str:
        part = int(np.searchsorted(self._bounds, number, side="right")) - 1
        return f"{self.parts[part].name} {self._read[part].place(number - self._bounds[part])}"


def _fullest(folders: Iterable[Path], paths: Sequence[str]) -> Path | None:
    """The first of the folders that hold the most of ``paths``; None where none holds any."""
    counts = {folder: sum((folder / path).is_file() for path in paths) for folder in folders}
    return max(counts, key=lambda folder: counts[folder]) if any(counts.values()) else None


def _folders_below(folder: Path) -> Iterator[Path]:
    """Folders in a folder, and those in them, in the order of their names. Of a large folder the first entries are looked
    at."""
    for one in _folders_in(folder):
        yield from (one, *_folders_in(one))


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in itertools.islice(entries, MOST_ENTRIES) if entry.is_dir())


def _one_spelling(names: Sequence[str], known: dict[str, str]) -> list[str]:
    """Names as an earlier file spells them; ``known`` maps lower case to spellings. Names of one file stay distinct."""
    done: list[str] = []
    for name in names:
        earlier = known.setdefault(name.lower(), name)
        done.append(name if earlier in done else earlier)
    return done


def _as_text(table: pyarrow.Table, column: str, kinds: set[pyarrow.DataType]) -> pyarrow.Table:
    """Give a column that has several types in several files one type: lists of text if any is one, else numbers or text."""
    if column not in table.column_names:
        return table
    texts = pyarrow.list_(pyarrow.string())
    place, values = table.column_names.index(column), table.column(column)
    if kinds <= {pyarrow.int64(), pyarrow.float64()}:
        values = values.cast(pyarrow.float64())
    elif texts not in kinds:
        values = values.cast(pyarrow.string())
    elif values.type != texts:
        values = pyarrow.chunked_array([[None if v is None else [str(v)] for v in values.to_pylist()]], texts)
    return table.set_column(place, column, values)
