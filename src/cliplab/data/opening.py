"""Opens a data set, local or on the hub, by row or part by part, with errors that say what to do."""

import bisect
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import datasets

from cliplab.data.caption_files import CaptionFiles, has_caption_files
from cliplab.data.hub import UnreachableData, hub_arguments, hub_fingerprint, reach_hub
from cliplab.data.hub_tars import HubTars, fetched_reader, hub_tars
from cliplab.data.layout import Layout, Part, Reader, Row, Unusable
from cliplab.data.layouts import reader_of
from cliplab.data.layouts.delimited import DelimitedReader
from cliplab.data.layouts.tars import TarReader
from cliplab.data.library import HeldRows, ImageFolder, LibraryStream, place_in, without_decoding
from cliplab.data.local import (
    ABOUT_PICTURES,
    NO_ROWS,
    DataFiles,
    choose_files,
    files_of_split,
    fingerprint_of_files,
    local_path,
    name_within,
)
from cliplab.data.patterns import matching_files
from cliplab.data.tables.delimited import lists_pictures
from cliplab.data.tables.json_records import wrong_line
from cliplab.files import describe_stand_in

T = TypeVar("T")
MOST_TEXTS = 20  # of a folder, to be looked at whether they are tables
SCRIPTS = "it needs a loading script, which the datasets library no longer runs; use a Parquet or webdataset copy"


@dataclass(frozen=True)
class Location:
    """Where a data set is: ``path`` is a hub id, or a local folder or file. Several splits are read as one, in their order.

    ``name`` is the hub's configuration, ``revision`` its commit or tag. ``data_files`` restricts the data set to some files
    of the path. ``reader`` holds options of the layout's reader.
    """

    path: str | None = None
    split: str | Sequence[str] = "train"
    name: str | None = None
    revision: str | None = None
    data_files: DataFiles = None
    reader: Mapping[str, Any] | None = None

    @property
    def where(self) -> str:
        """The path. Raises ValueError when it is not set."""
        if not self.path:
            raise ValueError("data.path is not set; give a local folder or a hub id: data.path=…")
        return self.path

    @property
    def splits(self) -> Sequence[str]:
        return [self.split] if isinstance(self.split, str) else self.split


@dataclass(frozen=True)
class OpenedRows:
    """Rows by number, with images left encoded. ``place`` gives the place of a row, for messages. ``damaged`` are rows that
    are lost with their files."""

    dataset: datasets.Dataset
    place: Callable[[int], str]
    damaged: Sequence[Unusable] = ()


class JoinedLayout:
    """Several layouts as one, one after the other."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self.layouts = layouts
        self.columns = list(dict.fromkeys(column for layout in layouts for column in layout.columns))
        self.parts: list[Part] = [part for layout in layouts for part in layout.parts]
        self._starts = list(itertools.accumulate((len(layout.parts) for layout in layouts), initial=0))

    @functools.cached_property
    def fingerprint(self) -> str:
        return " ".join(layout.fingerprint for layout in self.layouts)

    def rows(self, part: int, start: int = 0) -> Iterator[Row]:
        number = bisect.bisect_right(self._starts, part) - 1
        return self.layouts[number].rows(part - self._starts[number], start)


def _saved(path: Path, split: str) -> datasets.Dataset | None:
    """The data set that ``save_to_disk`` wrote there, or None."""
    if (path / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(path))
    if (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(path))[split]
    return None


def _local(path: Path, split: str, location: Location) -> Reader | HeldRows | ImageFolder:
    """The reader of one split of a local folder or file."""
    saved = _saved(path, split)
    if saved is not None:
        return HeldRows(saved, path.name, lambda: fingerprint_of_files(_saved_files(path, split), path))
    wanted = location.data_files
    if not Path(location.where).expanduser().exists():  # a pattern for files in the folder
        if wanted is not None:
            raise ValueError("data_files: the path itself is a pattern of files; set only one of the two")
        wanted = matching_files(location.where)
    kind, files = choose_files(path, split, wanted)
    if kind is None and has_caption_files(files) and not any(Path(file).name in ABOUT_PICTURES for file in files):
        if wanted is None and path.is_dir():
            files = [str(file) for file in files_of_split([Path(file) for file in files], path, split)]
        return CaptionFiles(files, path, **_options_of(CaptionFiles, location.reader or {}))
    if kind is None and (tables := _text_tables(files)):
        kind, files = DelimitedReader, tables
    if kind is None:
        return ImageFolder(path, split, files, named=wanted is not None)
    return kind(files, path, **_options_of(kind, location.reader or {}))


def _text_tables(files: Sequence[str]) -> list[str]:
    """Those of a few texts that are tables of pictures and captions."""
    texts = [file for file in files if file.lower().endswith(".txt")]
    return [file for file in texts if lists_pictures(Path(file))] if len(texts) <= MOST_TEXTS else []


def _options_of(kind: type[Reader], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are set. Raises ValueError for one that the reader does not have."""
    options = {name: value for name, value in given.items() if value is not None}
    signature = inspect.signature(kind.__init__).parameters.values()
    known = [one.name for one in signature if one.kind is inspect.Parameter.KEYWORD_ONLY]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature)
    unknown = [] if takes_any else [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"data.train.reader.{unknown[0]}: no such option for {kind.suffixes[0]}; there are {', '.join(known)}"
        )
    return options


def _saved_files(path: Path, split: str) -> Sequence[str]:
    return choose_files(path, split, None)[1]


def _split_layout(location: Location, split: str) -> Layout:
    path = local_path(location.where)
    if path is not None:
        reader = _local(path, split, location)
        _ = reader.columns  # some readers open their files only now and raise here
        return reader
    arguments = hub_arguments(location.name, location.revision, location.data_files)
    reach_hub(location.where)
    tars = hub_tars(location.where, split, arguments)
    if tars is not None:
        return HubTars(tars, **_options_of(TarReader, location.reader or {}))
    stream = datasets.load_dataset(location.where, split=split, streaming=True, **arguments)
    return LibraryStream(stream, location.where, lambda: hub_fingerprint(location.where, split, arguments))


def _rows_of(reader: Reader | HeldRows | ImageFolder, split: str) -> OpenedRows:
    dataset = without_decoding(reader.dataset(split))
    return OpenedRows(dataset, reader.place, [Unusable(reason, place) for place, reason in reader.damaged])


def _split_rows(location: Location, split: str) -> OpenedRows:
    path = local_path(location.where)
    if path is not None:
        return _rows_of(_local(path, split, location), split)
    reach_hub(location.where)
    arguments = hub_arguments(location.name, location.revision, location.data_files)
    tars = hub_tars(location.where, split, arguments)
    if tars is not None:
        return _rows_of(fetched_reader(tars, **_options_of(TarReader, location.reader or {})), split)
    dataset = without_decoding(datasets.load_dataset(location.where, split=split, streaming=False, **arguments))
    return OpenedRows(dataset, lambda number: place_in(dataset[number], f"{location.where} {split} row {number}"))


def _reason(error: BaseException) -> str:
    """The first line of an error, or of its cause where the error itself says nothing."""
    while type(error) is datasets.exceptions.DatasetGenerationError and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"


def _fault_of_file(location: Location) -> str:
    """A fault of one of the local files of a data set that cannot be opened, or "" when none is found."""
    path = Path(location.where).expanduser()
    for file in [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else ():
        is_table = file.name in ABOUT_PICTURES
        if not file.is_file() or not file.stat().st_size or not (is_table or reader_of(file.name)):
            continue  # the reader reports an empty file
        fault = describe_stand_in(file) or (wrong_line(file) if is_table and file.suffix == ".jsonl" else "")
        if fault:
            return f"{name_within(str(file), path)}: {fault}"
    return ""


def _opened(location: Location, split: str, how: Callable[[Location, str], T]) -> T:
    """Call ``how``. Raises UnreachableData with what can be done, or ValueError for a split without rows."""
    try:
        return how(location, split)
    except Exception as error:
        if NO_ROWS in str(error) and how is not _split_layout:
            columns = ", ".join(_split_layout(location, split).columns)
            raise ValueError(f"{location.where}: split {split!r} is empty; its columns are {columns}") from None
        reason = SCRIPTS if "script" in str(error).lower() else _reason(error)
        fault = _fault_of_file(location)
        reason += f"; {fault}" if fault else ""
        raise UnreachableData(f"data set {location.where!r} (split {split!r}) cannot be opened: {reason}") from error


def _refuse_twice(location: Location) -> None:
    """Raises ValueError when two splits of a local folder or file are read from the same file."""
    path = local_path(location.where)
    if len(location.splits) < 2 or path is None:
        return
    named = location.data_files if path == Path(location.where).expanduser() else matching_files(location.where)
    used: dict[str, str] = {}
    for split in location.splits:
        kind, files = choose_files(path, split, named)
        for file in files if kind is not None else ():
            if file in used:
                raise ValueError(
                    f"data.train.split: {used[file]} and {split} are both read from {name_within(file, path)}, so its rows "
                    "would count twice; name one split, and choose rows by their column: "
                    f'"data.train.filters.column_equals={{split: [{", ".join(location.splits)}]}}"'
                )
            used[file] = split


def open_layout(location: Location) -> Layout:
    """Open a data set part by part. Raises UnreachableData with what can be done."""
    layouts = [_opened(location, split, _split_layout) for split in location.splits]
    _refuse_twice(location)
    return layouts[0] if len(layouts) == 1 else JoinedLayout(layouts)


def open_rows(location: Location) -> OpenedRows:
    """Open a data set by row. The content of a local folder decides how it is read: as ``save_to_disk`` output, by a reader
    of ``layouts/``, or as images. Raises UnreachableData with what can be done, or ValueError when it is empty."""
    opened = [_opened(location, split, _split_rows) for split in location.splits]
    _refuse_twice(location)
    if len(opened) == 1:
        return opened[0]
    starts = list(itertools.accumulate((len(rows.dataset) for rows in opened), initial=0))

    def place(number: int) -> str:
        k = bisect.bisect_right(starts, number) - 1
        return opened[k].place(number - starts[k])

    damaged = [lost for rows in opened for lost in rows.damaged]
    return OpenedRows(datasets.concatenate_datasets([rows.dataset for rows in opened]), place, damaged)


def open_dataset(
    *,
    path: str,
    split: str | Sequence[str],
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles = None,
) -> datasets.Dataset:
    """The rows of a data set; see ``open_rows``."""
    return open_rows(Location(path, split, name, revision, data_files)).dataset
