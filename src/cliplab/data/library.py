"""Layouts that the datasets library reads: streams from the hub, rows on disk, folders of images."""

import functools
import itertools
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import datasets

from cliplab.data.caption_files import has_caption_files
from cliplab.data.cells import to_rows
from cliplab.data.layout import Part, Row
from cliplab.data.layouts import suffixes
from cliplab.data.local import (
    ABOUT_PICTURES,
    PICTURES,
    fingerprint_of_files,
    has_split_folders,
    name_within,
    refuse_empty,
    refuse_options,
)

ZIP = ".zip"
if not sys.stderr.isatty():
    datasets.disable_progress_bars()  # a log keeps each state of a bar
ROWS_AT_ONCE = 32  # rows read together; far faster than one by one
ROWS_PER_PART, MOST_PARTS = 1000, 64  # of rows on disk when they are streamed


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the library's progress bars during small local work."""
    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def cache_key(dataset: datasets.Dataset) -> str:
    """The key of a data set in the library's cache. ``_fingerprint`` is private; there is no public way to read it."""
    return str(dataset._fingerprint)


def without_decoding(dataset: Any) -> Any:
    """The same data set with its images left encoded."""
    for column, feature in (dataset.features or {}).items():
        encoded = datasets.Image(decode=False)
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, encoded)
        elif isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.List(encoded))
    return dataset


def place_in(values: Mapping[str, Any], otherwise: str, root: Path | None = None) -> str:
    """The place of a row by its own values: its tar and key, or its image's file; else ``otherwise``."""
    tar, key = values.get("__url__"), values.get("__key__")
    if tar is not None and key is not None:
        return f"{os.path.basename(str(tar))}: {key}"
    for value in values.values():
        path = value.get("path") if isinstance(value, Mapping) else None
        if isinstance(path, str) and os.path.isfile(path):
            return os.path.relpath(path, root) if root is not None else path
    return otherwise


class LibraryStream:
    """A streaming data set of the library, with a part for each shard. ``fingerprint`` is computed when it is needed."""

    def __init__(
        self, stream: datasets.IterableDataset, name: str, fingerprint: Callable[[], str], root: Path | None = None
    ) -> None:
        self.stream, self.name, self.root = without_decoding(stream), name, root
        self._find_fingerprint = fingerprint
        self.columns: Sequence[str] = stream.column_names or list(next(iter(stream), {}))
        self.parts = [Part(f"{name} shard {number}") for number in range(stream.num_shards)]

    @functools.cached_property
    def fingerprint(self) -> str:
        return self._find_fingerprint()

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        shard = self.stream.shard(num_shards=len(self.parts), index=part)
        # iter(batch_size) does not divide the shards among workers a second time, as iterating the stream would.
        chunks = shard.iter(batch_size=ROWS_AT_ONCE)
        rows = (dict(zip(chunk, row, strict=True)) for chunk in chunks for row in zip(*chunk.values(), strict=True))
        for number, values in itertools.islice(enumerate(rows), start, None):
            yield Row(values, place_in(values, f"{self.parts[part].name}, row {number}", self.root))


class LibraryReader:
    """Local files that a builder of the library reads. The parts are the library's shards."""

    suffixes: ClassVar[Sequence[str]] = ()
    precedence: ClassVar[int] = 90
    builder: ClassVar[str] = ""
    damaged: Sequence[tuple[str, str]] = ()

    def __init__(self, files: Sequence[str], root: Path, **options: Any) -> None:
        refuse_options(options, self.builder)
        refuse_empty(files, root)
        self.files, self.root = files, root

    def arguments(self, split: str) -> dict[str, Any]:
        """Arguments for ``datasets.load_dataset``."""
        return {"data_files": {split: [*self.files]}}

    def layout(self, split: str) -> LibraryStream:
        stream = datasets.load_dataset(self.builder, split=split, streaming=True, **self.arguments(split))
        name = name_within(self.files[0], self.root) if len(self.files) == 1 else self.root.name
        return LibraryStream(stream, name, lambda: fingerprint_of_files(self.files, self.root), self.root)

    @functools.cached_property
    def _layout(self) -> LibraryStream:
        return self.layout("train")

    @property
    def fingerprint(self) -> str:
        return self._layout.fingerprint

    @property
    def columns(self) -> Sequence[str]:
        return self._layout.columns

    @property
    def parts(self) -> Sequence[Part]:
        return self._layout.parts

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        return self._layout.rows(part, start)

    def dataset(self, split: str) -> datasets.Dataset:
        with no_progress_bars():
            rows = datasets.load_dataset(self.builder, split=split, **self.arguments(split))
            self._held = without_decoding(rows)
        return self._held

    def place(self, number: int) -> str:
        return place_in(self._held[number], f"{self.root.name} row {number}", self.root)


def _refuse_table_beside_zips(files: Sequence[str]) -> None:
    """Raises ValueError for a table of pictures whose pictures are all in zip files beside it: the library looks for them
    beside the table."""
    tables = [file for file in files if os.path.basename(file) in ABOUT_PICTURES]
    zips = [file for file in files if file.lower().endswith(ZIP)]
    if tables and zips and not any(file.lower().endswith(PICTURES) for file in files):
        table, packed = os.path.basename(tables[0]), os.path.basename(zips[0])
        raise ValueError(
            f"{table} is beside {packed}, which holds the pictures; unpack it there, or put {table} into it"
        )


def _refuse_texts_in_zip(path: Path) -> None:
    """Raises ValueError for a zip file that is damaged, and for one with captions beside its pictures, of which the library
    would take the pictures alone."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name} is damaged, or no zip file ({error}); fetch it again") from error
    if has_caption_files(names) and not any(os.path.basename(name) in ABOUT_PICTURES for name in names):
        raise ValueError(
            f"{path.name} holds texts beside its pictures, which are read from folders alone: unpack it, and give the folder"
        )


class ImageFolder(LibraryReader):
    """A folder of images or a zip file, with ``metadata.jsonl`` or ``metadata.csv``, or with class folders."""

    builder = "imagefolder"

    def __init__(self, root: Path, split: str, files: Sequence[str], named: bool) -> None:
        """``files`` are all files of the folder or, when ``named``, those that the user chose."""
        is_zip = root.suffix.lower() == ZIP
        if not root.is_dir() and not named and not is_zip:
            known = ", ".join(sorted([*suffixes(), ZIP]))
            raise ValueError(f"{root.name} is not a folder, and its extension is unknown; known are {known}")
        _refuse_table_beside_zips(files)
        if is_zip:
            _refuse_texts_in_zip(root)
        self.root, self.split, self.files, self.named = root, split, files, named or is_zip

    def arguments(self, split: str) -> dict[str, Any]:
        files: dict[str, Any]
        if self.named:
            files = {"data_files": {split: [*self.files]}}
        elif has_split_folders(self.root):
            files = {"data_dir": str(self.root)}
        else:
            files = {"data_files": {split: [str(self.root / "**")]}}  # all files are of the split
        return {**files, "drop_labels": None}

    @functools.cached_property
    def _layout(self) -> LibraryStream:
        return self.layout(self.split)


class HeldRows:
    """Rows of a data set of the library, by number or as a layout of up to 64 parts."""

    damaged: Sequence[tuple[str, str]] = ()

    def __init__(self, dataset: datasets.Dataset, name: str, fingerprint: Callable[[], str]) -> None:
        self.held, self.name = without_decoding(dataset), name
        self._find_fingerprint = fingerprint
        self.columns: Sequence[str] = dataset.column_names
        count, size = min(MOST_PARTS, 1 + len(dataset) // ROWS_PER_PART), len(dataset)
        bounds = [size // count * i + min(i, size % count) for i in range(count + 1)]
        self.bounds = bounds
        self.parts = [Part(f"{name} from row {a}", b - a) for a, b in itertools.pairwise(bounds)]

    @functools.cached_property
    def fingerprint(self) -> str:
        return self._find_fingerprint()

    def dataset(self, split: str) -> datasets.Dataset:
        return self.held

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        first, end = self.bounds[part] + start, self.bounds[part + 1]
        table = self.held.with_format("arrow")
        for begin in range(first, end, ROWS_AT_ONCE):
            chunk = to_rows(table[begin : min(end, begin + ROWS_AT_ONCE)])
            yield from (Row(values, self.place(number)) for number, values in enumerate(chunk, begin))

    def place(self, number: int) -> str:
        return f"{self.name} row {number}"
